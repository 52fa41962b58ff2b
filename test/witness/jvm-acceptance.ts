/** The acceptance checks of the command line's contract, every command, and the README's page on growing, at a real Kafka broker. */
import {
  acceptanceLines,
  prepareAcceptance,
  runAcceptanceLine,
} from '../support/acceptance-lines.ts'
import { EtcdServer } from '../support/etcd.ts'
import { GrowingHosts, growingSteps } from '../support/growing.ts'
import { kafkaCommands, prepareKafkaCommands, runKafkaCommand } from '../support/kafka-commands.ts'
import { startKafkaDoor } from '../support/kafka-door.ts'
import { Program } from '../support/program.ts'
import type { Checks } from './jvm-checks.ts'
import { KafkaBroker } from './jvm-kafka.ts'
import type { Stage } from './jvm-stage.ts'

/** As every cluster in use has it; the default makes each first member of a group wait for three seconds. */
const settings = (): string => 'group.initial.rebalance.delay.ms=50'

export async function checkAcceptance({ kafka }: Stage, checks: Checks): Promise<void> {
  const program = new Program({ environment: { STREAM_CONF_PRODUCE_CREATE: 'yes' } })
  const more = { settings, format: [] }
  const broker = await KafkaBroker.start(kafka, program.path('kafka'), undefined, more)
  try {
    program.environment['STREAM_BROKER'] = `kafka://${broker.address}`
    const other = (await startKafkaDoor(program, 'other', [])).native
    const restartBroker = async (): Promise<void> => {
      await broker.kill()
      await broker.startAgain()
    }
    prepareAcceptance({ program }, other)
    for (const each of acceptanceLines) {
      if (each.isOfDaemon) continue
      await checks.check(`${each.number}: ${each.line.slice(0, 100)}`, () =>
        runAcceptanceLine({ program, restartBroker }, each),
      )
    }
    prepareKafkaCommands(program, other)
    for (const each of kafkaCommands)
      await checks.check(`stream ${each.name}`, () => runKafkaCommand(program, each))
    await checks.check("the README's page on growing, to its end at Kafka", () =>
      grow(broker.address),
    )
  } finally {
    await broker.stop()
    program.stop()
  }
}

async function grow(address: string): Promise<string> {
  const program = new Program()
  const etcd = await EtcdServer.start()
  const hosts = await GrowingHosts.make(program, etcd.url, address)
  try {
    const steps = growingSteps()
    for (const step of steps) hosts.run(step)
    return `${steps.length} lines`
  } finally {
    hosts.stop()
    program.stop()
    await etcd.stop()
  }
}
