/** What brokers of other versions answer to questions about groups. */
import { describe, expect, it } from 'vitest'
import { GroupAdmin } from '../../../src/client/group-admin.ts'
import { type ApiName, apiTable } from '../../../src/protocol/api-table.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { fixture } from './client-fixture.ts'

const apis: readonly ApiName[] = ['FindCoordinator', 'DescribeGroups', 'ConsumerGroupDescribe']

describe('GroupAdmin.describe', () => {
  for (const [name, errorCode] of [
    ['that knows no such group', KafkaError.GROUP_ID_NOT_FOUND],
    ['whose newer protocol is off, as in Kafka 3.9', KafkaError.UNSUPPORTED_VERSION],
  ] as const) {
    it(`a group that is not there, of a broker ${name}`, async () => {
      const { brokers, cluster, world } = fixture()
      for (const api of apis) {
        const { key, min, max } = apiTable[api]
        brokers.ranges.set(key, { min, max })
      }
      const coordinator = { key: 'g', nodeId: 0, host: 'ipc://one', port: 0, errorCode: 0 }
      brokers.override.FindCoordinator = () => ({ ...coordinator, coordinators: [coordinator] })
      brokers.override.DescribeGroups = () => ({
        groups: [{ groupId: 'g', errorCode: 0, groupState: 'Dead', members: [] }],
      })
      brokers.override.ConsumerGroupDescribe = () => ({ groups: [{ groupId: 'g', errorCode }] })
      const admin = new GroupAdmin(world.time, world.random, cluster)
      expect(await world.run(admin.describe('g'))).toBeUndefined()
      expect(brokers.requests.map(({ api }) => api)).toContain('ConsumerGroupDescribe')
    })
  }
})
