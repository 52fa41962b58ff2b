/** Every command of `stream --help` at the daemon's Kafka door. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { commands } from '../../cmd/commands.ts'
import { kafkaCommands, prepareKafkaCommands, runKafkaCommand } from '../support/kafka-commands.ts'
import { startKafkaDoor } from '../support/kafka-door.ts'
import { Program } from '../support/program.ts'

describe('at the Kafka door', () => {
  let program: Program
  beforeAll(async () => {
    program = new Program({ environment: { STREAM_CONF_PRODUCE_CREATE: 'yes' } })
    const other = await startKafkaDoor(program, 'other', [])
    const door = await startKafkaDoor(program, 'door', ['group.initial.rebalance.delay.ms=50'])
    program.environment['STREAM_BROKER'] = `kafka://${door.address}`
    prepareKafkaCommands(program, other.native)
  }, 60_000)
  afterAll(() => program?.stop())

  it('the table has every command', () => {
    const names = kafkaCommands.map(({ name }) => name).sort()
    expect(names).toEqual(commands.map(({ name }) => name).sort())
  })

  for (const each of kafkaCommands)
    it(`stream ${each.name}`, async () => {
      await runKafkaCommand(program, each)
    }, 60_000)
})
