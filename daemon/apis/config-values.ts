/** Configs as the protocol shows them: sources, types, and checks that all altering APIs share. */

import type { ConfigKey } from '../../src/config/config-key.ts'
import type { BrokerConfig, Texts, TopicOrigin } from '../replica/broker-config.ts'

/** Kafka's ConfigSource numbers. */
export function sourceOf(origin: TopicOrigin): number {
  switch (origin) {
    case 'topic':
      return 1
    case 'dynamicBroker':
      return 2
    case 'dynamicDefault':
      return 3
    case 'static':
      return 4
    case 'default':
      return 5
  }
}

/** Kafka's ConfigType numbers. */
export function typeOf(key: ConfigKey): number {
  switch (key.type) {
    case 'boolean':
      return 1
    case 'string':
    case 'enum':
      return 2
    case 'int':
      return 3
    case 'long':
      return 5
    case 'double':
      return 6
    case 'list':
      return 7
    case 'secret':
      return 9
  }
}

export const TOPIC_RESOURCE = 2
export const BROKER_RESOURCE = 4

/** @throws StreamError CONFIG_INVALID */
export function checkTopicConfig(config: BrokerConfig, texts: Texts): void {
  config.topicConfig(texts, 1)
}

/**
 * The scope of a broker resource: '' is all brokers. @returns undefined for a name that is no broker of ours
 */
export function brokerScope(resourceName: string, nodeId: number): string | undefined {
  if (resourceName === '') return 'broker'
  return resourceName === String(nodeId) ? `broker/${nodeId}` : undefined
}
