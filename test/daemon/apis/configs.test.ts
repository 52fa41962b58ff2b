import { describe, expect, it } from 'vitest'
import { topicKeys } from '../../../src/config/keys.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { DaemonWorld } from '../daemon-world.ts'

const TOPIC = 2
const BROKER = 4

async function started(texts: Readonly<Record<string, string>> = {}) {
  const w = new DaemonWorld()
  const daemon = await w.start({ texts })
  const client = w.client()
  await client.create('t', { config: { 'retention.ms': '60000' } })
  const describeAll = async (resourceType: number, resourceName: string) => {
    const answer = await client.call('DescribeConfigs', 4, {
      resources: [{ resourceType, resourceName, configurationKeys: null }],
      includeSynonyms: true,
      includeDocumentation: true,
    })
    return answer.results[0]!
  }
  const config = async (name: string) =>
    (await describeAll(TOPIC, 't')).configs.find((each) => each.name === name)!
  const alter = async (
    changes: readonly (readonly [name: string, operation: number, value: string | null])[],
    resource: { type?: number; name?: string; validateOnly?: boolean } = {},
  ) => {
    const answer = await client.call('IncrementalAlterConfigs', 1, {
      resources: [
        {
          resourceType: resource.type ?? TOPIC,
          resourceName: resource.name ?? 't',
          configs: changes.map(([name, configOperation, value]) => ({
            name,
            configOperation,
            value,
          })),
        },
      ],
      validateOnly: resource.validateOnly ?? false,
    })
    return answer.responses[0]!
  }
  return { w, daemon, client, describeAll, config, alter }
}

describe('P11 DescribeConfigs', () => {
  it('returns every known config of a topic, with type, source and a line of help', async () => {
    const { describeAll } = await started()
    const { errorCode, configs } = await describeAll(TOPIC, 't')
    expect(errorCode).toBe(0)
    const visible = topicKeys.filter((key) => !('hidden' in key)).map((key) => key.name)
    expect(configs.map((each) => each.name)).toEqual(visible)
    const of = (name: string) => configs.find((each) => each.name === name)
    expect(of('retention.ms')).toMatchObject({ value: '60000', configSource: 1, configType: 5 })
    expect(of('cleanup.policy')).toMatchObject({ value: 'delete', configSource: 5, configType: 7 })
    expect(of('flush.messages')).toMatchObject({ value: '1', configSource: 5 })
    expect(of('max.compaction.lag.ms')?.value).toBe('9223372036854775807')
    expect(of('preallocate')).toMatchObject({ value: 'false', configType: 1 })
    for (const each of configs) expect(each.documentation).toBeTruthy()
  })

  it('a value from the broker is no value of the topic', async () => {
    const { config } = await started({ 'log.segment.bytes': '2097152' })
    expect(await config('segment.bytes')).toMatchObject({ value: '2097152', configSource: 4 })
    expect((await config('segment.bytes')).synonyms).toEqual([
      { name: 'log.segment.bytes', value: '2097152', source: 4 },
    ])
  })

  it('gives only the keys asked for', async () => {
    const { client } = await started()
    const answer = await client.call('DescribeConfigs', 1, {
      resources: [
        { resourceType: TOPIC, resourceName: 't', configurationKeys: ['retention.ms', 'nothing'] },
      ],
      includeSynonyms: false,
    })
    expect(answer.results[0]?.configs.map((each) => each.name)).toEqual(['retention.ms'])
  })

  it('describes this broker, and no other', async () => {
    const { describeAll } = await started({ 'num.partitions': '4' })
    const own = await describeAll(BROKER, '1')
    const of = (name: string) => own.configs.find((each) => each.name === name)
    expect(of('num.partitions')).toMatchObject({ value: '4', configSource: 4 })
    expect(of('socket.request.max.bytes')).toMatchObject({ configSource: 5, readOnly: true })
    expect((await describeAll(BROKER, '9')).errorCode).toBe(KafkaError.INVALID_REQUEST)
    expect((await describeAll(BROKER, '')).configs).toEqual([])
  })

  it('unknown topics and resources are errors of their own', async () => {
    const { describeAll } = await started()
    expect((await describeAll(TOPIC, 'none')).errorCode).toBe(3)
    expect((await describeAll(TOPIC, 'a b')).errorCode).toBe(17)
    expect((await describeAll(8, '1')).errorCode).toBe(KafkaError.INVALID_REQUEST)
  })
})

describe('IncrementalAlterConfigs', () => {
  it('sets, deletes, appends and subtracts; the change is in force at once', async () => {
    const { daemon, config, alter } = await started()
    expect((await alter([['max.message.bytes', 0, '5000']])).errorCode).toBe(0)
    expect(daemon.broker.table.find('t', 0)?.config.maxMessageBytes).toBe(5000)
    await alter([['cleanup.policy', 2, 'compact']])
    expect((await config('cleanup.policy')).value).toBe('delete,compact')
    await alter([['cleanup.policy', 3, 'delete']])
    expect(await config('cleanup.policy')).toMatchObject({ value: 'compact', configSource: 1 })
    await alter([
      ['cleanup.policy', 1, null],
      ['retention.ms', 1, null],
    ])
    expect(await config('cleanup.policy')).toMatchObject({ value: 'delete', configSource: 5 })
    expect((await config('retention.ms')).value).toBe('604800000')
  })

  it.each([
    ['an unknown name', [['retention.mss', 0, '1']], KafkaError.INVALID_CONFIG],
    ['a value out of range', [['segment.bytes', 0, '5']], KafkaError.INVALID_CONFIG],
    ['a word for a number', [['retention.ms', 0, 'soon']], KafkaError.INVALID_CONFIG],
    ['a list change of no list', [['retention.ms', 2, '1']], KafkaError.INVALID_CONFIG],
    ['no value', [['retention.ms', 0, null]], KafkaError.INVALID_CONFIG],
    ['tiered storage', [['remote.storage.enable', 0, 'true']], KafkaError.INVALID_CONFIG],
    ['an unknown operation', [['retention.ms', 9, '1']], KafkaError.INVALID_REQUEST],
    [
      'one config twice',
      [
        ['retention.ms', 0, '1'],
        ['retention.ms', 0, '2'],
      ],
      KafkaError.INVALID_REQUEST,
    ],
    [
      'one bad among good ones: nothing is changed',
      [
        ['max.message.bytes', 0, '7'],
        ['nothing', 0, '1'],
      ],
      KafkaError.INVALID_CONFIG,
    ],
  ] as const)('refuses %s', async (_title, changes, code) => {
    const { config, alter } = await started()
    expect((await alter(changes)).errorCode).toBe(code)
    expect((await config('retention.ms')).value).toBe('60000')
    expect((await config('max.message.bytes')).configSource).toBe(5)
  })

  it('validate_only changes nothing', async () => {
    const { config, alter } = await started()
    expect((await alter([['retention.ms', 0, '5']], { validateOnly: true })).errorCode).toBe(0)
    expect((await config('retention.ms')).value).toBe('60000')
    const wrong = await alter([['nothing', 0, '5']], { validateOnly: true })
    expect(wrong.errorCode).toBe(KafkaError.INVALID_CONFIG)
  })

  it('broker configs that are read at each use can be changed, the others not', async () => {
    const { daemon, config, alter } = await started()
    const all = { type: BROKER, name: '' }
    expect((await alter([['log.retention.bytes', 0, '777']], all)).errorCode).toBe(0)
    expect(await config('retention.bytes')).toMatchObject({ value: '777', configSource: 3 })
    const own = { type: BROKER, name: '1' }
    expect((await alter([['num.partitions', 0, '6']], own)).errorCode).toBe(0)
    expect(daemon.broker.config.number('num.partitions')).toBe(6)
    const fixed = await alter([['max.connections', 0, '6']], own)
    expect(fixed.errorCode).toBe(KafkaError.INVALID_CONFIG)
  })

  it('survives a restart', async () => {
    const { w, alter } = await started()
    await alter([['max.message.bytes', 0, '4321']])
    await alter([['num.partitions', 0, '6']], { type: BROKER, name: '' })
    const { daemon } = await w.crashAndRestart()
    expect(daemon.broker.table.find('t', 0)?.config.maxMessageBytes).toBe(4321)
    expect(daemon.broker.config.number('num.partitions')).toBe(6)
  })
})

it('AlterConfigs replaces the whole set', async () => {
  const { client, config } = await started()
  const answer = await client.call('AlterConfigs', 2, {
    resources: [
      {
        resourceType: TOPIC,
        resourceName: 't',
        configs: [{ name: 'max.message.bytes', value: '9000' }],
      },
    ],
    validateOnly: false,
  })
  expect(answer.responses[0]?.errorCode).toBe(0)
  expect(await config('max.message.bytes')).toMatchObject({ value: '9000', configSource: 1 })
  expect(await config('retention.ms')).toMatchObject({ value: '604800000', configSource: 5 })
})
