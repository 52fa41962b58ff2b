/** What is read of a topic's texts is kept, and read anew when the broker's own texts change. */
import { describe, expect, it } from 'vitest'
import { BrokerConfig } from '../../../daemon/replica/broker-config.ts'

describe('configs of topics', () => {
  it('are read once for each number of replicas', () => {
    const config = new BrokerConfig(new Map())
    const texts = { 'retention.ms': '1000' }
    const one = config.topicConfig(texts, 1)
    expect(config.topicConfig(texts, 1)).toBe(one)
    expect(one.minInsyncReplicas).toBe(1)
    expect(config.topicConfig(texts, 3).minInsyncReplicas).toBe(2)
    expect(config.topicConfig({ 'retention.ms': '2000' }, 1).retentionMs).toBe(2000)
    expect(one.retentionMs).toBe(1000)
  })

  it('follow what is set for brokers at once', () => {
    const config = new BrokerConfig(new Map([['log.retention.ms', '5000']]))
    const texts = {}
    expect(config.topicConfig(texts, 1).retentionMs).toBe(5000)
    config.setDynamic({ 'log.retention.ms': '6000' }, {})
    expect(config.topicConfig(texts, 1).retentionMs).toBe(6000)
    config.setDynamic({ 'log.retention.ms': '6000' }, { 'log.retention.ms': '7000' })
    expect(config.topicConfig(texts, 1).retentionMs).toBe(7000)
  })
})
