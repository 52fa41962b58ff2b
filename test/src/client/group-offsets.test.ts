/** Commits of a group, as brokers of several versions are asked for them. */
import { describe, expect, it } from 'vitest'
import { GroupLink } from '../../../src/client/group-link.ts'
import { commitGroupOffsets, type GroupOffset } from '../../../src/client/group-offsets.ts'
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
  return { commit, asked }
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
