/** Offsets of a source's groups: one group that does not tell its offsets does not keep the others from being copied. */
import { describe, expect, it } from 'vitest'
import type { GroupCoordinator } from '../../../daemon/coordinator/group-coordinator.ts'
import { GroupSync } from '../../../daemon/links/group-sync.ts'
import type { LinkRun } from '../../../daemon/links/link-run.ts'
import type { Broker } from '../../../daemon/replica/broker.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { SimRandom } from '../../sim/sim-random.ts'
import { KeptLog } from '../../support/kept-log.ts'

const TOPIC = 'orders'

/** A source with groups of one offset each; of some it answers with an error. */
class Source {
  readonly requestTimeoutMs = 1000
  readonly isClosed = false
  readonly backoff = { firstMs: 1, maxMs: 1 }
  readonly metadata = { brokers: new Map([[1, {}]]) }
  readonly #groups: Readonly<Record<string, number>>
  readonly #errors: Readonly<Record<string, number>>

  constructor(groups: Readonly<Record<string, number>>, errors: Readonly<Record<string, number>>) {
    this.#groups = groups
    this.#errors = errors
  }

  async connection() {
    return { versionOf: (api: string) => (api === 'OffsetFetch' ? 9 : 5) }
  }

  async ofEachBroker<T>(ask: (nodeId: number) => Promise<T>): Promise<T[]> {
    return [await ask(1)]
  }

  async call(
    _target: unknown,
    api: string,
    body: { readonly groups?: readonly { groupId: string }[] },
  ) {
    if (api === 'ListGroups') {
      const groups = Object.keys(this.#groups).map((groupId) => ({
        groupId,
        protocolType: '',
        groupState: 'Empty',
      }))
      return { errorCode: 0, groups }
    }
    if (api === 'FindCoordinator') return { coordinators: [{ errorCode: 0, nodeId: 1 }] }
    const groupId = body.groups?.[0]?.groupId ?? ''
    const row = {
      partitionIndex: 0,
      committedOffset: this.#groups[groupId],
      errorCode: 0,
      metadata: '',
    }
    const topics = [{ name: TOPIC, partitions: [row] }]
    return { errorCode: 0, groups: [{ groupId, errorCode: this.#errors[groupId] ?? 0, topics }] }
  }
}

/** @returns what was committed here in the first pass, and what was said */
async function pass(source: Source) {
  const timers: (() => void)[] = []
  const log = new KeptLog()
  const mirror = { value: { linkId: 'L', state: 'MIRROR' } }
  const broker = {
    nodeId: 1,
    log,
    random: new SimRandom(1),
    time: {
      monotonicMs: () => 0,
      wallMs: () => 0,
      setTimer: (_ms: number, run: () => void) => {
        timers.push(run)
        return { cancel: () => undefined }
      },
    },
    image: { links: { mirror: () => mirror } },
    table: { find: () => ({ notServing: undefined, lastStableOffset: 1000 }) },
  } as unknown as Broker
  const shard = {}
  const committed: string[] = []
  const offsets = { get: () => undefined, set: () => undefined }
  const entryOf = (groupId: string) => ({ groupId, offsets, classic: { checkCommit: () => 0 } })
  const groups = {
    locate: async () => ({ errorCode: 0, nodeId: 1 }),
    find: (groupId: string) => ({ shard, entry: entryOf(groupId) }),
    entryIn: (_shard: unknown, groupId: string) => {
      committed.push(groupId)
      return entryOf(groupId)
    },
    dropIfNothing: () => undefined,
    append: (_shard: unknown, _records: unknown, _apply: unknown, done: () => void) => done(),
  } as unknown as GroupCoordinator
  const run = { cluster: source, value: { id: 'L', syncGroups: true, state: 'ACTIVE' } }
  const sync = new GroupSync(broker, groups, new Map([['west', run as unknown as LinkRun]]))
  sync.start()
  timers.shift()?.()
  // The next pass is asked for at once; nothing but promises keeps this one from its end.
  expect(timers).toHaveLength(1)
  for (let turn = 0; turn < 1000; turn += 1) await Promise.resolve()
  sync.stop()
  return { committed: [...new Set(committed)], log }
}

describe('offsets of groups', () => {
  it('are copied, whichever other group does not tell its own', async () => {
    const source = new Source(
      { a: 5, hidden: 6, z: 7 },
      { hidden: KafkaError.GROUP_AUTHORIZATION_FAILED },
    )
    const { committed, log } = await pass(source)
    expect(committed).toEqual(['a', 'z'])
    expect(log.lines).toEqual([
      expect.stringMatching(/^warn offsets of groups could not be copied.*hidden/),
    ])
  })
})
