/** Bugs of links put in on purpose: pieces of the sources are replaced (planted-sources.ts). */
import type { LinkRunResult } from './link-run.ts'
import { bundlePlanted, type Change } from './planted-sources.ts'

export interface PlantedLinkBug {
  readonly name: string
  readonly changes: readonly Change[]
  readonly caught: RegExp
  /** Where it does not show early; default 1. */
  readonly firstSeed?: number
}

const session = 'daemon/links/mirror-session.ts'
const run = 'daemon/links/link-run.ts'
const state = 'daemon/links/mirror-state.ts'

export const plantedLinkBugs: readonly PlantedLinkBug[] = [
  {
    name: 'records beyond the last stable offset of the source',
    changes: [
      { file: run, from: 'isolationLevel: 1,', to: 'isolationLevel: 0,' },
      {
        file: state,
        from: 'row.lastStableOffset >= 0 ? row.lastStableOffset : row.highWatermark',
        to: 'row.highWatermark',
      },
    ],
    caught: /stable at the source to/,
  },
  {
    name: 'a position that goes over a record now and then',
    changes: [
      {
        file: run,
        from: 'fetchOffset: session.state.fetchOffset(log),',
        to: 'fetchOffset: session.state.fetchOffset(log) + (log.logEndOffset % 7 === 3 ? 1 : 0),',
      },
    ],
    caught: /are not the source's|lies inside of a batch|not within/,
  },
  {
    name: 'a source that was cut back, and goes on with other records',
    changes: [
      {
        file: run,
        from: 'lastFetchedEpoch: session.state.lastEpochAt(log.logEndOffset),',
        to: 'lastFetchedEpoch: -1,',
      },
    ],
    caught: /nobody says so|neither level nor diverged/,
    firstSeed: 263,
  },
  {
    name: 'batches whose leader epoch at the source is not in the store',
    changes: [{ file: session, from: 'await this.#learn(step.epochs)', to: 'await undefined' }],
    caught: /is of epoch|nobody says so/,
  },
  {
    name: 'records that go on coming while the mirror is promoted',
    changes: [
      {
        file: run,
        from: "if (this.#value.state !== 'ACTIVE' || mirror?.state !== 'MIRROR') return false",
        to: 'if (mirror === undefined) return false',
      },
      {
        file: run,
        from: `  #pump(): void {
    if (this.#value.state !== 'ACTIVE') return
`,
        to: '  #pump(): void {\n',
      },
      { file: run, from: 'if (mirror.path.includes(clusterId)) return false', to: '' },
      {
        file: run,
        from: "return session.isCurrent && session.role === 'mirror'",
        to: "return session.isCurrent && !['starting', 'fenced'].includes(session.role)",
      },
      {
        file: session,
        from: `        if (!this.isCurrent || this.#role !== 'mirror') return
        if (step.batches.length > 0)`,
        to: '        if (step.batches.length > 0)',
      },
      {
        file: session,
        from: `        if (!this.isCurrent || this.#role !== 'mirror') return
        if (step.kind === 'restart')`,
        to: "        if (step.kind === 'restart')",
      },
    ],
    caught: /there are records to|promoted at|not promoted|all of it is stable/,
  },
  {
    name: 'a promotion that leaves transactions open',
    changes: [{ file: session, from: '!(await this.#cutTo(fenced.promotedOffset))', to: 'false' }],
    caught: /all of it is stable|there are records to/,
  },
  {
    name: 'a promotion that leaves open what began before it',
    changes: [{ file: session, from: 'await this.#abortOpen()', to: 'await undefined' }],
    caught: /all of it is stable/,
  },
  {
    name: 'a promotion that cuts off the end of a transaction that has one',
    changes: [
      {
        file: session,
        from: 'const promotedOffset = await this.#endOfWhole(settledOffset)',
        to: 'const promotedOffset = settledOffset',
      },
    ],
    caught: /promoted at|there are records to|all of it is stable/,
  },
  {
    name: 'two runs that write at once: the one before a takeover goes on as if it still led',
    changes: [
      {
        file: session,
        from: `      partition.notServing === undefined &&
      partition.leaderEpoch === this.leaderEpoch`,
        to: '      partition.notServing === undefined',
      },
      {
        file: session,
        from: 'led === undefined || led.value.leaderEpoch !== this.leaderEpoch || !this.isCurrent',
        to: 'led === undefined || !this.isCurrent',
      },
      {
        file: 'daemon/metadata/link-transactions.ts',
        from: "{ kind: 'modRevision', key, equals: change.revision },",
        to: '',
      },
    ],
    caught: /not following|is of epoch|not within|not promoted|nobody says so/,
  },
  {
    name: 'a mirror that shows what may be cut',
    changes: [
      {
        file: 'daemon/apis/read-only.ts',
        from: 'isMirrored(topic, topicId, index) ? lastStableOffset : highWatermark',
        to: 'isMirrored(topic, topicId, index) ? Math.max(lastStableOffset, highWatermark) : highWatermark',
      },
    ],
    caught: /readers are shown/,
  },
  {
    name: 'a cut below what is committed that other replicas are not told of',
    changes: [
      { file: session, from: 'if (!isAlone && ', to: 'if (!isAlone && leads(this) && ' },
      {
        file: session,
        from: 'const RETRY_MS = 1000',
        to: 'const RETRY_MS = 1000\nconst leads = (_: unknown): boolean => false',
      },
    ],
    caught: /not promoted|not within|are not the same/,
  },
  {
    name: 'replicas that count with what they had before a cut',
    changes: [
      {
        file: 'daemon/replica/partition.ts',
        from: 'replicas.forgetPositions(log.logEndOffset, host.nowMs())',
        to: '',
      },
    ],
    caught: /not promoted|not within|are not the same|are not the source's/,
  },
  {
    name: 'a fetch of a replica that waits through a cut, and is answered behind it',
    changes: [
      {
        file: 'daemon/apis/replica-fetch.ts',
        from: ' || partition.cuts !== cuts) {',
        to: ' || cuts < 0) {',
      },
      {
        file: session,
        from: 'while (!this.partition.isEven) {',
        to: 'while (!this.partition.isEven && !this.isCurrent) {',
      },
    ],
    caught: /not within|are not the same|are not the source's|there are records to/,
    firstSeed: 32,
  },
  {
    name: 'offsets of groups that are ahead of the records',
    changes: [
      { file: 'daemon/links/group-sync.ts', from: 'offset: Math.min(offset, end),', to: 'offset,' },
    ],
    caught: /the group is at/,
  },
  {
    name: 'a log start that is not followed',
    changes: [
      {
        file: session,
        from: 'if (start <= partition.log.logStartOffset || this.#isTrimming) return',
        to: 'if (start >= -1) return',
      },
    ],
    caught: /starts where it starts/,
  },
]

/** The run of links with the bug in it; `end` takes away what was made for it. */
export async function withLinkBug({ changes }: Pick<PlantedLinkBug, 'changes'>): Promise<{
  readonly runLink: (seed: number) => Promise<LinkRunResult>
  readonly end: () => void
}> {
  const { module, end } = await bundlePlanted('test/sim/link-run.ts', changes)
  return { runLink: (module as typeof import('./link-run.ts')).runLink, end }
}
