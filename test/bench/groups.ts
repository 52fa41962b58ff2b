/**
 * Groups of a hundred members at a real, durable daemon: how long until all partitions have their reader again when all
 * start, one joins, one leaves, by protocol and assignor; how many partitions move; and what one commit costs.
 *
 * Members learn of a rebalance with their next heartbeat, so its pause is most of the time; it is each protocol's default
 * (3 s classic, 5 s consumer). Each member has a connection of its own, as in a process of its own.
 */
import { Cluster } from '../../src/client/cluster.ts'
import { GroupLink } from '../../src/client/group-link.ts'
import { GroupMember } from '../../src/client/group-member.ts'
import { RealNet } from '../../src/io/real-net.ts'
import { RealRandom } from '../../src/io/real-random.ts'
import { RealTime } from '../../src/io/real-time.ts'
import { ConsumerProtocolMember } from '../daemon/coordinator/consumer-member.ts'
import { makeScratch, quantile, type Row, run } from './harness.ts'

const PARTITIONS = 300
const WAIT_MS_MAX = 120_000
const quiet = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}
const kinds = ['classic, range (eager)', 'classic, cooperative', 'consumer protocol'] as const

interface Member {
  owned(): number
  gaveBack(): number
  leave(): Promise<void>
}

export async function benchGroups(options: {
  readonly members: number
  readonly commits: number
}): Promise<Row[]> {
  const scratch = makeScratch()
  try {
    run('stream daemon start', scratch)
    const status = JSON.parse(run('stream daemon status --json', scratch)) as {
      addresses: string[]
    }
    const address = status.addresses[0] ?? ''
    run(`stream topics create wide --partitions ${PARTITIONS}`, scratch)
    const rows: Row[] = []
    for (const kind of kinds) rows.push(...(await rebalances(kind, address, options.members)))
    rows.push(...(await commits(address, options.commits)))
    return rows
  } finally {
    scratch.stop()
  }
}

// --- rebalances

async function rebalances(
  kind: (typeof kinds)[number],
  address: string,
  count: number,
): Promise<Row[]> {
  const topicId = await topicIdOf(address)
  const group = `bench-${kinds.indexOf(kind)}`
  const join = (index: number): Member =>
    kind === 'consumer protocol'
      ? joinConsumer(address, group, `m${index}`, topicId)
      : joinClassic(
          address,
          group,
          kind === 'classic, cooperative' ? 'cooperative-sticky' : 'range',
        )
  const members: Member[] = []
  const row = (what: string, ms: number, moved: number | undefined): Row => ({
    measure: `${kind}: ${what}`,
    value: `${(ms / 1000).toFixed(1)} s${moved === undefined ? '' : `, ${moved} of ${PARTITIONS} partitions given back`}`,
    must: '',
    aim: '',
    holds: undefined,
  })
  const started = performance.now()
  for (let index = 0; index < count; index += 1) members.push(join(index))
  const startMs = await untilShared(members, started)
  const before = given(members)
  const joined = performance.now()
  members.push(join(count))
  const joinMs = await untilShared(members, joined)
  const movedByJoin = given(members) - before
  const left = performance.now()
  const [leaver, ...rest] = members
  const hadBefore = given(rest)
  await leaver?.leave()
  const leaveMs = await untilShared(rest, left)
  const movedByLeave = given(rest) - hadBefore
  await Promise.all(rest.map((each) => each.leave()))
  return [
    row(`${count} members start together`, startMs, undefined),
    row('one more joins', joinMs, movedByJoin),
    row('one leaves', leaveMs, movedByLeave),
  ]
}

function given(members: readonly Member[]): number {
  return members.reduce((sum, each) => sum + each.gaveBack(), 0)
}

/** @returns milliseconds since `startedMs` until every partition has a reader, and all have as many as the next */
async function untilShared(members: readonly Member[], startedMs: number): Promise<number> {
  for (;;) {
    const counts = members.map((each) => each.owned())
    const sum = counts.reduce((total, each) => total + each, 0)
    const nowMs = performance.now()
    if (sum === PARTITIONS && Math.max(...counts) - Math.min(...counts) < 2)
      return nowMs - startedMs
    if (nowMs - startedMs > WAIT_MS_MAX)
      throw new Error(`no shares after ${WAIT_MS_MAX} ms: ${counts}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

function joinClassic(
  address: string,
  groupId: string,
  assignor: 'range' | 'cooperative-sticky',
): Member {
  const { time, random, cluster } = connect(address)
  const member = new GroupMember(time, random, cluster, {
    groupId,
    topics: ['wide'],
    assignors: [assignor],
  })
  let gaveBack = 0
  let isGone = false
  const follow = async (): Promise<void> => {
    await cluster.connect()
    member.start()
    while (!isGone) {
      for (let event = member.poll(); event !== undefined; event = member.poll()) {
        if (event.kind === 'failed') throw event.error
        if (event.kind !== 'revoked') continue
        gaveBack += event.partitions.length
        member.released()
      }
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }
  void follow()
  return {
    owned: () => member.owned.length,
    gaveBack: () => gaveBack,
    leave: async () => {
      await member.leave()
      isGone = true
      cluster.close()
    },
  }
}

function joinConsumer(address: string, groupId: string, name: string, topicId: string): Member {
  const member = new ConsumerProtocolMember(
    { ...connect(address), crash: () => undefined },
    name,
    { groupId, topic: 'wide', topicId, reads: false },
    { claim: () => undefined, release: () => undefined, read: () => undefined },
  )
  return {
    owned: () => member.owned.size,
    gaveBack: () => member.gaveBack,
    leave: () => member.leave(),
  }
}

function connect(address: string) {
  const time = new RealTime()
  const random = new RealRandom()
  const cluster = new Cluster(time, random, new RealNet(), quiet, { addresses: [address] })
  return { time, random, cluster }
}

async function topicIdOf(address: string): Promise<string> {
  const { cluster } = connect(address)
  await cluster.connect()
  const answer = await cluster.call('any', 'Metadata', {
    topics: [{ name: 'wide', topicId: 'AAAAAAAAAAAAAAAAAAAAAA' }],
  } as never)
  cluster.close()
  return answer.topics[0]?.topicId ?? ''
}

// --- commits

const COMMIT_MS_MAX = 5

async function commits(address: string, count: number): Promise<Row[]> {
  const { time, random, cluster } = connect(address)
  await cluster.connect()
  const link = new GroupLink(time, random, cluster, 'commits')
  const samples: number[] = []
  for (let index = 0; index < count; index += 1) {
    const began = performance.now()
    await link.call(
      'OffsetCommit',
      {
        groupId: 'commits',
        memberId: '',
        generationIdOrMemberEpoch: -1,
        topics: [
          {
            name: 'wide',
            partitions: [{ partitionIndex: 0, committedOffset: index, committedMetadata: '' }],
          },
        ],
      },
      ({ topics }) => topics[0]?.partitions[0]?.errorCode ?? 0,
      // Later versions name topics by id.
      { versionMax: 9 },
    )
    samples.push(performance.now() - began)
  }
  cluster.close()
  const middle = quantile(samples, 0.5)
  return [
    {
      measure: 'one commit, durable, p50',
      value: `${middle.toFixed(2)} ms`,
      must: `< ${COMMIT_MS_MAX} ms`,
      aim: '',
      holds: middle < COMMIT_MS_MAX,
    },
    {
      measure: 'one commit, durable, p99',
      value: `${quantile(samples, 0.99).toFixed(2)} ms`,
      must: '',
      aim: '',
      holds: undefined,
    },
  ]
}
