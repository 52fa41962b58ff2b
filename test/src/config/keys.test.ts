import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type ConfigKey,
  ConfigSet,
  configVariable,
  findConfigDefect,
} from '../../../src/config/config-key.ts'
import {
  brokerKeys,
  clientKeys,
  configFromVariables,
  keysOf,
  topicKeys,
  unknownKeyMessage,
} from '../../../src/config/keys.ts'
import { editDistance, nearestName } from '../../../src/config/nearest-name.ts'
import {
  describeTopicConfig,
  parseBrokerConfig,
  parseTopicConfig,
  validateTopicConfig,
} from '../../../src/config/topic-config.ts'

describe('the table of keys', () => {
  const scopes = ['client', 'broker', 'topic'] as const

  it('names are unique within a scope, and every row has a help line', () => {
    for (const scope of scopes) {
      const names = keysOf(scope).map((key) => key.name)
      expect(new Set(names).size, scope).toBe(names.length)
      for (const key of keysOf(scope)) {
        expect(key.help, key.name).toMatch(/^\S.*[^.]$/)
        expect(key.help).not.toContain('\n')
      }
    }
  })

  it('every default is a value that its own row allows', () => {
    for (const scope of scopes) {
      for (const key of keysOf(scope)) {
        if (key.default !== null)
          expect(findConfigDefect(key, key.default), key.name).toBeUndefined()
      }
    }
  })

  it('no two keys have one variable', () => {
    for (const scope of scopes) {
      const variables = keysOf(scope).map((key) => configVariable(key.name))
      expect(new Set(variables).size).toBe(variables.length)
    }
    expect(configVariable('linger.ms')).toBe('STREAM_CONF_LINGER_MS')
  })

  it('every topic key with a synonym has a broker key for it', () => {
    const names = new Set<string>(brokerKeys.map((key) => key.name))
    for (const key of topicKeys) if ('synonym' in key) expect(names.has(key.synonym)).toBe(true)
  })

  it('secrets are never shown in an error', () => {
    const secrets = clientKeys.filter((key) => key.type === 'secret')
    expect(secrets.length).toBeGreaterThan(0)
    expect(unknownKeyMessage('client', 'linger.mss')).toContain('did you mean linger.ms?')
  })
})

describe('findConfigDefect', () => {
  const key = (type: ConfigKey['type'], more: Partial<ConfigKey> = {}): ConfigKey => ({
    name: 'k',
    type,
    default: null,
    help: 'h',
    ...more,
  })

  it('checks types and limits', () => {
    expect(findConfigDefect(key('int'), '2147483647')).toBeUndefined()
    expect(findConfigDefect(key('int'), '2147483648')).toContain('32 bits')
    expect(findConfigDefect(key('long'), '9223372036854775807')).toBeUndefined()
    expect(findConfigDefect(key('long'), '9223372036854775808')).toContain('64 bits')
    expect(findConfigDefect(key('int', { min: 1 }), '0')).toContain('at least 1')
    expect(findConfigDefect(key('double', { max: 1 }), '1.5')).toContain('at most 1')
    expect(findConfigDefect(key('boolean'), 'maybe')).toContain('true or false')
    expect(findConfigDefect(key('enum', { values: ['a'] }), 'b')).toContain('one of: a')
    expect(findConfigDefect(key('list', { values: ['a', 'b'] }), 'a, b')).toBeUndefined()
    expect(findConfigDefect(key('list', { values: ['a', 'b'] }), 'a,c')).toBe(
      'holds "c", and may hold only: a, b',
    )
    for (const text of ['', '1.5', '0x10', '1e3', ' ', 'NaN']) {
      expect(findConfigDefect(key('int'), text), text).toBeDefined()
    }
  })

  it('is total', () => {
    fc.assert(
      fc.property(fc.constantFrom(...topicKeys, ...clientKeys), fc.string(), (row, text) => {
        findConfigDefect(row, text)
      }),
    )
  })
})

describe('ConfigSet', () => {
  it('gives defaults, refuses unknown names and bad values', () => {
    const set = new ConfigSet(clientKeys, new Map([['linger.ms', '7']]))
    expect(set.number('linger.ms')).toBe(7)
    expect(set.number('batch.size')).toBe(1_024_000)
    expect(set.text('compression.type')).toBeNull()
    expect(set.isSet('acks')).toBe(false)
    expect(() => new ConfigSet(clientKeys, new Map([['x', '1']]))).toThrow('no such config key')
    expect(() => new ConfigSet(clientKeys, new Map([['linger.ms', 'x']]))).toThrow('linger.ms')
  })
})

describe('configFromVariables', () => {
  it('takes only what belongs to the scope', () => {
    const variables = { STREAM_CONF_NUM_PARTITIONS: '3', STREAM_CONF_LINGER_MS: '1', PATH: 'x' }
    expect([...configFromVariables('broker', variables)]).toEqual([['num.partitions', '3']])
    expect([...configFromVariables('client', variables)]).toEqual([['linger.ms', '1']])
  })
})

describe('topic config', () => {
  it('flush is durable by default, and "no limit" is Infinity', () => {
    const config = parseTopicConfig({})
    expect(config.flushMessages).toBe(1)
    expect(config.retentionMs).toBe(604_800_000)
    expect(config.maxCompactionLagMs).toBe(Number.POSITIVE_INFINITY)
    expect([config.cleanupDelete, config.cleanupCompact]).toEqual([true, false])
    expect(config.segmentBytes).toBe(1_073_741_824)
  })

  it('two in-sync replicas are the default where there are several', () => {
    expect(parseTopicConfig({}, { replicationFactor: 3 }).minInsyncReplicas).toBe(2)
    expect(parseTopicConfig({}).minInsyncReplicas).toBe(1)
    const set = parseTopicConfig({ 'min.insync.replicas': '3' }, { replicationFactor: 3 })
    expect(set.minInsyncReplicas).toBe(3)
  })

  it('the topic wins over the broker, the broker over the default; hours yield to milliseconds', () => {
    const broker = { 'log.retention.hours': '2', 'log.segment.bytes': '2097152' }
    const config = parseTopicConfig({ 'segment.bytes': '1048576' }, { broker })
    expect(config.segmentBytes).toBe(1_048_576)
    expect(config.retentionMs).toBe(7_200_000)
    const withMs = parseTopicConfig({}, { broker: { ...broker, 'log.retention.ms': '-1' } })
    expect(withMs.retentionMs).toBe(-1)
    expect(withMs.segmentBytes).toBe(2_097_152)
    const origins = describeTopicConfig({ 'segment.bytes': '1048576' }, { broker })
    expect(origins.find(({ name }) => name === 'segment.bytes')?.origin).toBe('topic')
    expect(origins.find(({ name }) => name === 'retention.ms')).toEqual({
      name: 'retention.ms',
      text: '7200000',
      origin: 'broker',
    })
    expect(origins.some(({ name }) => name === 'internal.segment.bytes')).toBe(false)
  })

  it('refuses unknown keys, limits and contradictions', () => {
    expect(() => validateTopicConfig({ 'retention.mss': '1' })).toThrow(
      'did you mean retention.ms?',
    )
    expect(() => validateTopicConfig({ 'segment.bytes': '5' })).toThrow('at least 1048576')
    expect(() => validateTopicConfig({ 'cleanup.policy': 'burn' })).toThrow('only')
    expect(() => validateTopicConfig({ 'remote.storage.enable': 'true' })).toThrow('tiered')
    expect(() =>
      validateTopicConfig({ 'min.compaction.lag.ms': '10', 'max.compaction.lag.ms': '5' }),
    ).toThrow('max.compaction.lag.ms')
    expect(parseTopicConfig({ 'internal.segment.bytes': '500' }).segmentBytes).toBe(500)
  })

  it('broker keys have their own set', () => {
    const config = parseBrokerConfig({ 'num.partitions': '4' })
    expect(config.number('num.partitions')).toBe(4)
    expect(config.boolean('auto.create.topics.enable')).toBe(false)
    expect(config.number('default.replication.factor')).toBeNaN()
    expect(() => parseBrokerConfig({ 'num.partition': '4' })).toThrow(
      'did you mean num.partitions?',
    )
  })
})

describe('nearestName', () => {
  it('finds slips, and nothing far away', () => {
    expect(nearestName('retention.mx', ['retention.ms', 'flush.ms'])).toBe('retention.ms')
    expect(nearestName('prodcue', ['produce', 'consume'])).toBe('produce')
    expect(nearestName('zebra', ['produce', 'consume'])).toBeUndefined()
    expect(nearestName('x', ['produce'])).toBeUndefined()
  })

  it('the distance is a metric but for swaps, and at most the longer length', () => {
    const word = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 8 })
    fc.assert(
      fc.property(word, word, (left, right) => {
        const distance = editDistance(left, right)
        expect(distance).toBe(editDistance(right, left))
        expect(distance).toBeLessThanOrEqual(Math.max(left.length, right.length))
        expect(distance === 0).toBe(left === right)
      }),
    )
    expect(editDistance('ab', 'ba')).toBe(1)
  })
})
