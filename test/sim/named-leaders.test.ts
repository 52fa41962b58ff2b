/** What clients are told of leaders that have just died. */
import { expect, it } from 'vitest'
import { metadata } from '../../daemon/apis/03-metadata.ts'
import { describeTopicPartitions } from '../../daemon/apis/75-describe-topic-partitions.ts'
import type { RequestContext, Services } from '../../daemon/apis/handler.ts'
import { Admin } from '../../src/client/admin.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { SimBroker } from './sim-broker.ts'
import { simClient } from './sim-clients.ts'
import { startThree } from './three-brokers.ts'

const TOPIC = 't'
const LOOK_MS = 5

async function clusterOfThree(seed: string) {
  const { world, network, brokers, addresses } = await startThree(seed)
  const random = world.random.fork('client')
  const { cluster, time } = simClient({ world, network, random, addresses, topic: TOPIC }, 'client')
  await world.settle(cluster.connect())
  const admin = new Admin(time, random, cluster)
  const topic = { name: TOPIC, partitions: 6, replicationFactor: 3, configs: {} }
  await world.settle(admin.createTopics([topic]))
  return { world, brokers }
}

interface Told {
  readonly listed: readonly number[]
  readonly partitions: readonly { readonly leaderId: number; readonly errorCode: number }[]
}

const partitionsOf = (answer: { readonly topics: readonly Pick<Told, 'partitions'>[] }) =>
  answer.topics.flatMap(({ partitions }) => partitions)

function servicesOf({ daemon, host }: SimBroker): Services {
  if (daemon === undefined) throw new Error(`${host} runs`)
  return { broker: daemon.broker } as unknown as Services
}

function contextOf({ host }: SimBroker, door: 'zmq' | 'kafka', apiVersion = 0): RequestContext {
  return { apiVersion, door, endpoint: { host, port: 0 } } as unknown as RequestContext
}

async function askMetadata(broker: SimBroker, door: 'zmq' | 'kafka', version: number) {
  const answer = await metadata(servicesOf(broker), contextOf(broker, door, version), {
    topics: null,
    allowAutoTopicCreation: false,
    includeClusterAuthorizedOperations: false,
    includeTopicAuthorizedOperations: false,
  })
  if (answer === undefined) throw new Error('an answer')
  return { listed: answer.brokers.map(({ nodeId }) => nodeId), partitions: partitionsOf(answer) }
}

async function ask(broker: SimBroker): Promise<Told[]> {
  const told = await askMetadata(broker, 'zmq', 12)
  const described = await describeTopicPartitions(servicesOf(broker), contextOf(broker, 'zmq'), {
    topics: [],
    responsePartitionLimit: 2000,
    cursor: null,
  })
  if (described === undefined) throw new Error('an answer')
  return [told, { listed: told.listed, partitions: partitionsOf(described) }]
}

it('a leader that lives behind another door is none at this one', async () => {
  const { brokers } = await clusterOfThree('doors')
  const [asked] = brokers
  if (asked === undefined) throw new Error('three')
  const { LEADER_NOT_AVAILABLE, LISTENER_NOT_FOUND } = KafkaError
  for (const [version, errorCode] of [
    [1, LEADER_NOT_AVAILABLE],
    [5, LEADER_NOT_AVAILABLE],
    [6, LISTENER_NOT_FOUND],
    [12, LISTENER_NOT_FOUND],
  ] as const) {
    const { listed, partitions } = await askMetadata(asked, 'kafka', version)
    expect(listed).toEqual([1])
    const led = partitions.filter(({ leaderId }) => leaderId === 1)
    const others = partitions.filter(({ leaderId }) => leaderId !== 1)
    expect([led.length, others.length]).toEqual([2, 4])
    for (const partition of led) expect(partition).toMatchObject({ errorCode: 0 })
    for (const partition of others) expect(partition).toMatchObject({ leaderId: -1, errorCode })
  }
})

// kafkajs asked nobody for such a partition, and learnt of the next leader when its metadata had expired, five minutes later.
it('a leader that is not listed is named to nobody', async () => {
  let unnamed = 0
  for (const seed of ['a', 'b', 'c']) unnamed += await killLeader(seed)
  expect(unnamed).toBeGreaterThan(0)
})

/** @returns how often a partition was told to have no leader, until all had another one */
async function killLeader(seed: string): Promise<number> {
  const { world, brokers } = await clusterOfThree(seed)
  const controllerId = brokers[0]?.daemon?.broker.controllerId
  const going = brokers.find(({ nodeId }) => nodeId === controllerId)
  const asked = brokers.find((broker) => broker !== going)
  if (going === undefined || asked === undefined) throw new Error('three')
  let unnamed = 0
  const isLed = async (): Promise<boolean> => {
    const told = await ask(asked)
    for (const { listed, partitions } of told) {
      expect(partitions).toHaveLength(6)
      for (const { leaderId, errorCode } of partitions) {
        if (leaderId < 0) unnamed += 1
        else expect(listed).toContain(leaderId)
        expect(errorCode).toBe(leaderId < 0 ? KafkaError.LEADER_NOT_AVAILABLE : 0)
      }
    }
    return told.every(({ partitions }) => partitions.every(({ leaderId }) => leaderId >= 0))
  }
  expect(await isLed()).toBe(true)
  // The controller too, so that nobody is elected before its own session is over.
  going.kill('power')
  const deadlineMs = world.now + 60_000
  const isListed = () => asked.daemon?.broker.liveBrokers().includes(going.nodeId)
  while (isListed() || !(await isLed())) {
    if (world.now > deadlineMs) throw new Error('no other leaders')
    await world.run({ untilMs: world.now + LOOK_MS })
  }
  return unnamed
}
