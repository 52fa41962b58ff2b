/** Which configs of a source's topics are taken over: what is set there, known and possible here, and not the source's own affair. */
import { describe, expect, it } from 'vitest'
import { copiedConfig, sourceConfigs } from '../../../daemon/links/config-sync.ts'
import type { Broker } from '../../../daemon/replica/broker.ts'
import type { Cluster } from '../../../src/client/cluster.ts'
import type { TopicInfo } from '../../../src/client/metadata-cache.ts'
import { SimRandom } from '../../sim/sim-random.ts'
import { KeptLog } from '../../support/kept-log.ts'

const TOPIC_CONFIG = 1
const DEFAULT_CONFIG = 5

const broker = {
  log: new KeptLog(),
  random: new SimRandom(1),
  time: { monotonicMs: () => 0 },
} as unknown as Broker

interface Answer {
  readonly resourceName: string
  readonly errorCode?: number
  readonly configs?: readonly (readonly [string, string | null, number?])[]
}

function ask(answers: readonly Answer[], names = answers.map((each) => each.resourceName)) {
  const call = async () => ({
    results: answers.map(({ resourceName, errorCode = 0, configs = [] }) => ({
      resourceType: 2,
      resourceName,
      errorCode,
      errorMessage: null,
      configs: configs.map(([name, value, configSource = TOPIC_CONFIG]) => ({
        name,
        value,
        configSource,
        readOnly: false,
        isSensitive: false,
        documentation: null,
      })),
    })),
  })
  const cluster = { call, requestTimeoutMs: 1000, connection: async () => ({ versionOf: () => 4 }) }
  return sourceConfigs(
    broker,
    cluster as unknown as Cluster,
    names.map((name) => ({ name }) as TopicInfo),
  )
}

describe('configs of a source', () => {
  it('takes what is set on the topic and can be had here', async () => {
    const found = await ask([
      {
        resourceName: 'a',
        configs: [
          ['retention.ms', '12345'],
          ['cleanup.policy', 'compact,delete'],
          ['segment.bytes', '999', DEFAULT_CONFIG],
          ['min.insync.replicas', '2'],
          ['remote.storage.enable', 'true'],
          ['confluent.placement.constraints', '{}'],
          // Values that other brokers allow, and a log here cannot have.
          ['max.message.bytes', '-5'],
          ['compression.type', 'brotli'],
        ],
      },
    ])
    expect(found.get('a')).toEqual(
      new Map([
        ['retention.ms', '12345'],
        ['cleanup.policy', 'compact,delete'],
      ]),
    )
  })

  it('knows nothing of a topic that is hidden, which is not that nothing is set', async () => {
    const found = await ask(
      [{ resourceName: 'hidden', errorCode: 29 }, { resourceName: 'plain' }],
      ['hidden', 'plain', 'gone'],
    )
    expect([...found.keys()]).toEqual(['plain'])
  })

  it('leaves what is this cluster’s own', () => {
    const before = { 'retention.ms': '1', 'min.insync.replicas': '2' }
    expect(copiedConfig(before, new Map([['segment.ms', '7']]))).toEqual({
      'min.insync.replicas': '2',
      'segment.ms': '7',
    })
  })
})
