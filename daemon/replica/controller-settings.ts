/** What the controller decides by, from the configs of the broker that it runs on. */

import type { TopicValue } from '../metadata/metadata-values.ts'
import type { BrokerConfig } from './broker-config.ts'
import type { ControllerSettings, TopicSettings } from './controller-pass.ts'

/** @throws StreamError CONFIG_INVALID: a config that this broker does not understand */
export function topicSettings(
  config: BrokerConfig,
  topic: Pick<TopicValue, 'config'>,
): TopicSettings {
  const whole = config.topicConfig(topic.config, 1)
  // Asked once for each of many partitions, which mostly have as many replicas.
  const known = new Map<number, number>()
  const minInSync = (replicas: number): number => {
    const { minInsyncReplicas } = config.topicConfig(topic.config, replicas)
    return Math.min(minInsyncReplicas, replicas)
  }
  return {
    uncleanElection: whole.uncleanLeaderElectionEnable,
    commitFlush: whole.flushMessages === 1,
    minInSync: (replicas) => {
      const found = known.get(replicas) ?? minInSync(replicas)
      known.set(replicas, found)
      return found
    },
  }
}

export function controllerSettings(config: BrokerConfig): ControllerSettings {
  return {
    topic: ({ value }) => topicSettings(config, value),
    uncleanTimeoutMs: () => config.number('unclean.recovery.timeout.ms'),
    imbalancePauseMs: () => config.number('leader.imbalance.check.interval.seconds') * 1000,
    imbalancePercentage: () => config.number('leader.imbalance.per.broker.percentage'),
  }
}
