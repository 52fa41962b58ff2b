/** Commits of a group, as brokers of several versions are asked for them. */
import { describe, expect, it } from 'vitest'
import { GroupLink } from '../../../src/client/group-link.ts'
import { commitGroupOffsets, type GroupOffset } from '../../../src/client/group-offsets.ts'
import { commitAsMember } from '../../../src/client/member-commit.ts'
import { type ApiName, apiTable, type Request } from '../../../src/protocol/api-table.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { ZERO_UUID } from '../../../src/protocol/schema.ts'
import { fixture } from './client-fixture.ts'

const apis: readonly ApiName[] = ['FindCoordinator', 'OffsetCommit']
const topicId = `old${'A'.repeat(18)}g`

function stageOf(versionMax: number, errorCode = 0) {
  const stage = fixture()
  const { brokers, world } = stage
  for (const api of apis) {
    const { key, min, max } = apiTable[api]
    brokers.ranges.set(key, { min, max: api === 'OffsetCommit' ? versionMax : max })
  }
  const coordinator = { key: 'g', nodeId: 0, host: 'ipc://one', port: 0, errorCode: 0 }
  brokers.override.FindCoordinator = () => ({ ...coordinator, coordinators: [coordinator] })
  const asked: Request<'OffsetCommit'>['topics'][number][] = []
  brokers.override.OffsetCommit = ({ topics }) => {
    asked.push(...topics)
    const partitions = [{ partitionIndex: 0, errorCode }]
    return { topics: topics.map((topic) => ({ ...topic, partitions })) }
  }
  const link = new GroupLink(world.time, world.random, stage.cluster, 'g')
  const commit = (offset: Partial<GroupOffset>) =>
    world.run(commitGroupOffsets(link, [{ topic: 't', partition: 0, offset: 5, ...offset }]))
  return { commit, asked, link, ...stage }
}

describe('commits of a group', () => {
  it('name the topic by id where it is known and the broker can, else by name', async () => {
    for (const [versionMax, offset, expected] of [
      [10, { topicId }, { name: '', topicId }],
      [10, {}, { name: 't', topicId: ZERO_UUID }],
      [10, { topicId: ZERO_UUID }, { name: 't', topicId: ZERO_UUID }],
      [9, { topicId }, { name: 't', topicId: ZERO_UUID }],
    ] as const) {
      const { commit, asked } = stageOf(versionMax)
      await commit(offset)
      expect(asked).toMatchObject([expected])
    }
  })

  it('of a topic that has another id by now fail, and the words name it', async () => {
    const { commit } = stageOf(10, KafkaError.UNKNOWN_TOPIC_ID)
    await expect(commit({ topicId })).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringMatching(/^t: the topic was deleted and created again/),
    })
  })
})

describe('commits of a member whose topic the coordinator does not know any more', () => {
  const member = { memberId: 'm', groupInstanceId: null, generationId: 1 }

  /** @param now  what the brokers say of `t`, look by look; the last goes on */
  async function commitOf(now: readonly { errorCode: number; topicId?: string }[]) {
    const { brokers, world, cluster, link } = stageOf(10)
    const stored: string[] = []
    brokers.override.OffsetCommit = ({ topics }) => {
      const errorCode = (id: string) => (id === topicId ? KafkaError.UNKNOWN_TOPIC_ID : 0)
      const isWhole = topics.every((topic) => errorCode(topic.topicId) === 0)
      if (isWhole) stored.push(...topics.map((topic) => topic.topicId))
      return {
        topics: topics.map((topic) => ({
          ...topic,
          partitions: [{ partitionIndex: 0, errorCode: errorCode(topic.topicId) }],
        })),
      }
    }
    let looks = 0
    const describe = cluster.describeTopics.bind(cluster)
    cluster.describeTopics = async (names, options) => {
      if (names?.includes('t') !== true) return describe(names, options)
      const said = now[Math.min(looks++, now.length - 1)]
      const row = { isInternal: false, partitions: [] }
      return [
        { ...row, name: 't', topicId: ZERO_UUID, errorCode: 0, ...said },
        { ...row, name: 'other', topicId: otherId, errorCode: 0 },
      ]
    }
    const offsets = [
      { topic: 't', topicId, partition: 0, offset: 5 },
      { topic: 'other', topicId: otherId, partition: 0, offset: 7 },
    ]
    const tools = { time: world.time, random: world.random, cluster, link }
    const outcome = world.run(commitAsMember(tools, offsets, member))
    return { outcome, stored, looks: () => looks }
  }
  const otherId = `oth${'A'.repeat(18)}g`
  const gone = { errorCode: KafkaError.UNKNOWN_TOPIC_OR_PARTITION }

  it('leave out the one that is gone, and store the others', async () => {
    const { outcome, stored } = await commitOf([gone])
    await outcome
    expect(stored).toEqual([otherId])
  })

  it('wait for a broker that hears later of it than the coordinator', async () => {
    const { outcome, stored, looks } = await commitOf([{ errorCode: 0, topicId }, gone])
    await outcome
    expect(stored).toEqual([otherId])
    expect(looks()).toBe(2)
  })

  it('fail where another topic has its name, and where nobody says that it is gone', async () => {
    for (const said of [`new${'A'.repeat(18)}g`, topicId]) {
      const { outcome, stored } = await commitOf([{ errorCode: 0, topicId: said }])
      await expect(outcome).rejects.toMatchObject({ code: 'CONFLICT' })
      expect(stored).toEqual([])
    }
  })
})
