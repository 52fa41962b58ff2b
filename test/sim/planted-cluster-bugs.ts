/** Bugs of the data plane put in on purpose, as disks and stores that do not do what was asked of them. */
import type { MetadataStore, StoreTxn } from '../../src/ports/metadata-store.ts'
import type { ClusterBug } from './cluster-run.ts'
import type { ClusterFault } from './cluster-trouble.ts'
import { lyingDisk } from './lying-disk.ts'

export interface PlantedClusterBug {
  readonly name: string
  /** Which faults bring it to light. */
  readonly only: readonly ClusterFault[]
  readonly bug: ClusterBug
  readonly caught: RegExp
}

const LOSS =
  /damaged|lost-write|inconsistent-offsets|hole|moved-write|altered|duplicate|not healthy|OUT_OF_ORDER/

/** Every guard of a transaction that writes a partition's record is left out. */
function withoutGuards(store: MetadataStore): MetadataStore {
  const isRecord = ({ then }: StoreTxn): boolean =>
    then.some(({ kind, key }) => kind === 'put' && key.includes('/part/'))
  return new Proxy(store, {
    get(target, name) {
      if (name === 'txn') {
        return (txn: StoreTxn) => store.txn(isRecord(txn) ? { ...txn, compare: [] } : txn)
      }
      const member = Reflect.get(target, name)
      return typeof member === 'function' ? member.bind(target) : member
    },
  })
}

export const plantedClusterBugs: readonly PlantedClusterBug[] = [
  {
    name: 'replicas that tell positions which are not on the disk',
    only: ['power', 'crash'],
    bug: {
      wrapDisk: lyingDisk((file) =>
        file.path.endsWith('.log') ? { dataSync: () => Promise.resolve() } : {},
      ),
    },
    caught: LOSS,
  },
  {
    name: 'records of partitions that are written without their guards',
    only: ['crash', 'cut', 'store', 'lease', 'unknown'],
    bug: { wrapStore: withoutGuards },
    caught: LOSS,
  },
]
