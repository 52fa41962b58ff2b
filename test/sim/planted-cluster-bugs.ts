/** Bugs of the data plane put in on purpose, as disks and stores that do not do what was asked of them. */
import type { MetadataStore, StoreTxn } from '../../src/ports/metadata-store.ts'
import type { ClusterBug } from './cluster-run.ts'
import type { ClusterFault } from './cluster-trouble.ts'
import { lyingDisk } from './lying-disk.ts'
import type { Change } from './planted-sources.ts'

export interface PlantedClusterBug {
  readonly name: string
  /** Which faults bring it to light. */
  readonly only: readonly ClusterFault[]
  readonly bug: ClusterBug
  readonly caught: RegExp
}

const LOSS =
  /damaged|lost-write|inconsistent-offsets|hole|moved-write|altered|duplicate|not healthy|not delivered|OUT_OF_ORDER/

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
    caught: /is not repaired|CORRUPT_MESSAGE|not healthy|not delivered/,
  },
  {
    name: 'a broker with an empty disk that still counts as the member that it was',
    only: ['orders'],
    bug: { wrapStore: withoutLossyStarts },
    caught: LOSS,
  },
]

/** Bugs in the sources; each fault alone brings its bug to light, from `firstSeed` on within a few seeds. Without faults none does. */
export interface PlantedSourceBug {
  readonly name: string
  readonly changes: readonly Change[]
  readonly faults: readonly { readonly only: ClusterFault; readonly firstSeed: number }[]
  readonly caught: RegExp
}

export const plantedSourceBugs: readonly PlantedSourceBug[] = [
  {
    name: 'a batch that is sent again counts as a new one',
    changes: [
      {
        file: 'daemon/log/producer-state.ts',
        from: 'if (trace.firstSequence === batch.baseSequence && trace.lastSequence === lastSequence) {',
        to: 'if (trace.firstSequence === -2 && trace.lastSequence === lastSequence) {',
      },
      {
        file: 'daemon/log/producer-state.ts',
        from: 'if (batch.baseSequence !== addSequence(entry.lastSequence, 1)) {',
        to: 'if (batch.baseSequence === -2) {',
      },
    ],
    faults: [
      { only: 'links', firstSeed: 8 },
      { only: 'repeat', firstSeed: 0 },
      { only: 'delay', firstSeed: 9 },
      { only: 'cut', firstSeed: 0 },
      { only: 'pause', firstSeed: 12 },
      { only: 'power', firstSeed: 12 },
      { only: 'sync', firstSeed: 0 },
    ],
    caught: /duplicate/,
  },
  {
    name: 'a broker that does not come back from a lost session',
    changes: [
      {
        file: 'daemon/replica/session-keeper.ts',
        from: `    if (this.#ended || this.#returning !== undefined || this.#failure !== undefined) return
    this.#isHeld = false`,
        to: `    if (!this.#ended || this.#returning !== undefined || this.#failure !== undefined) return
    this.#isHeld = false`,
      },
    ],
    faults: [
      { only: 'lease', firstSeed: 0 },
      { only: 'store', firstSeed: 0 },
      { only: 'pause', firstSeed: 7 },
    ],
    caught: /not healthy|not delivered/,
  },
  {
    name: 'a replica that takes the end of its log for committed when it starts',
    changes: [
      {
        file: 'daemon/log/recovery.ts',
        from: `      this.#facts.checkpoint?.highWatermark ?? 0,
      core.logStartOffset,`,
        to: `      core.logEndOffset,
      core.logStartOffset,`,
      },
    ],
    faults: [{ only: 'crash', firstSeed: 10 }],
    caught: /not healthy|not delivered/,
  },
  {
    name: 'records that are refused by a clock which runs behind',
    changes: [
      {
        file: 'daemon/apis/batch-validation.ts',
        from: 'max - wallMs > config.messageTimestampAfterMaxMs',
        to: 'max - wallMs > 3_600_000',
      },
    ],
    faults: [{ only: 'clock', firstSeed: 7 }],
    caught: /too far ahead/,
  },
  {
    name: 'a failed sync that counts as done',
    changes: [
      {
        file: 'daemon/log/sync-scheduler.ts',
        from: `      (error: unknown) => {
        this.#running--
        throw this.fail(error, target)
      },`,
        to: '      () => this.#ended(),',
      },
    ],
    faults: [{ only: 'sync', firstSeed: 10 }],
    caught: LOSS,
  },
]
