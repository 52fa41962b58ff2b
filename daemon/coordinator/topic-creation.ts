/** Topics that a broker needs made, whoever is the controller: it makes them itself or asks the one who is. */

import { isStreamError, StreamError } from '../../src/base/errors.ts'
import { sleep } from '../../src/ports/time.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { TopicImage } from '../metadata/metadata-image.ts'
import type { Broker } from '../replica/broker.ts'
import type { Texts } from '../replica/broker-config.ts'
import type { PeerCaller } from './peer-caller.ts'

const CREATE_VERSION = 7
const CREATE_TIMEOUT_MS = 15_000
const LOOK_PAUSE_MS = 10

export interface WantedTopic {
  readonly name: string
  /** Node ids of each partition's replicas, the preferred leader first. */
  readonly assignments: readonly (readonly number[])[]
  readonly config: Texts
}

/**
 * @returns the topic, as this broker's image shows it; made by somebody else meanwhile is fine as well
 * @throws StreamError of the disk and the store; TIMED_OUT, UNREACHABLE, BROKER_ERROR of the controller
 */
export async function createTopic(
  broker: Broker,
  peers: PeerCaller | undefined,
  wanted: WantedTopic,
): Promise<TopicImage> {
  const { controllerId, nodeId } = broker
  if (peers !== undefined && controllerId !== nodeId) {
    return createByController(broker, peers, controllerId, wanted)
  }
  try {
    return await broker.topics.create(wanted)
  } catch (error) {
    const raced = broker.image.topic(wanted.name)
    if (isStreamError(error, 'TOPIC_EXISTS') && raced !== undefined) return raced
    throw error
  }
}

async function createByController(
  broker: Broker,
  peers: PeerCaller,
  controllerId: number,
  { name, assignments, config }: WantedTopic,
): Promise<TopicImage> {
  if (controllerId < 0) {
    const why = broker.session.storeContact?.trouble?.message
    const words = why === undefined ? '' : `: ${why}`
    throw new StreamError('STORE_UNAVAILABLE', `${name}: no broker is the controller now${words}`)
  }
  const { time } = broker
  const deadlineMs = time.monotonicMs() + CREATE_TIMEOUT_MS
  const answer = await peers.call(
    controllerId,
    'CreateTopics',
    CREATE_VERSION,
    {
      topics: [
        {
          name,
          numPartitions: -1,
          replicationFactor: -1,
          assignments: assignments.map((brokerIds, partitionIndex) => ({
            partitionIndex,
            brokerIds: [...brokerIds],
          })),
          configs: Object.entries(config).map(([key, value]) => ({ name: key, value })),
        },
      ],
      timeoutMs: CREATE_TIMEOUT_MS,
      validateOnly: false,
    },
    { timeoutMs: CREATE_TIMEOUT_MS },
  )
  const row = answer.topics[0]
  const code = row?.errorCode ?? KafkaError.UNKNOWN_SERVER_ERROR
  if (code !== 0 && code !== KafkaError.TOPIC_ALREADY_EXISTS) {
    const why = row?.errorMessage ?? `error ${code}`
    throw new StreamError('BROKER_ERROR', `${name}: broker ${controllerId} did not make it: ${why}`)
  }
  // What the controller has written comes here with the store's next events.
  for (;;) {
    const topic = broker.image.topic(name)
    if (topic?.value.state === 'READY') return topic
    if (time.monotonicMs() > deadlineMs) {
      throw new StreamError('TIMED_OUT', `${name}: made by the controller, and not seen here yet`)
    }
    await sleep(time, LOOK_PAUSE_MS)
  }
}
