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

/** A broker that starts without its data does not say so. */
function withoutLossyStarts(store: MetadataStore): MetadataStore {
  return new Proxy(store, {
    get(target, name) {
      if (name === 'txn') {
        return (txn: StoreTxn) => {
          const then = txn.then.filter(
            ({ kind, key }) => kind !== 'put' || !key.includes('/data/') || isFirst(txn),
          )
          return store.txn({ ...txn, then })
        }
      }
      const member = Reflect.get(target, name)
      return typeof member === 'function' ? member.bind(target) : member
    },
  })
}

function isFirst({ then }: StoreTxn): boolean {
  const data = then.find(({ key }) => key.includes('/data/'))
  return data?.kind === 'put' && new TextDecoder().decode(data.value).includes('first start')
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
  {
    name: 'repairs that leave the damaged bytes where they are',
    only: ['flip', 'crash'],
    bug: {
      wrapDisk: lyingDisk((file) => ({
        write: (position, parts) => {
          const isRepair = file.path.endsWith('.log') && position < file.sizeBytes()
          if (!isRepair) file.write(position, parts)
        },
      })),
    },
    caught: /is not repaired|CORRUPT_MESSAGE|not healthy/,
  },
  {
    name: 'a broker with an empty disk that still counts as the member that it was',
    only: ['orders'],
    bug: { wrapStore: withoutLossyStarts },
    caught: LOSS,
  },
]
