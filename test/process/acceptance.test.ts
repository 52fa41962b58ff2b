/** The acceptance checks of the command line's contract, at both doors of the daemon. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  type AcceptanceStage,
  acceptanceLines,
  prepareAcceptance,
  runAcceptanceLine,
} from '../support/acceptance-lines.ts'
import { freePorts } from '../support/etcd.ts'
import { startKafkaDoor } from '../support/kafka-door.ts'
import { Program } from '../support/program.ts'

const DAEMON_SETTINGS = '-X group.initial.rebalance.delay.ms=50'
/** By its own socket, whatever broker the lines are for. */
const own = { environment: { STREAM_BROKER: '' } }

describe.each(['native', 'kafka'] as const)('acceptance, at the %s door', (door) => {
  let program: Program
  let stage: AcceptanceStage

  beforeAll(async () => {
    const [port] = await freePorts(1)
    const address = `kafka://127.0.0.1:${port}`
    program = new Program({
      environment: {
        STREAM_CONF_PRODUCE_CREATE: 'yes',
        ...(door === 'kafka' ? { STREAM_BROKER: address } : {}),
      },
    })
    const start = (): string =>
      program.ok(`stream daemon start --listen ${address} ${DAEMON_SETTINGS}`, own)
    start()
    stage = {
      program,
      restartBroker: () => {
        process.kill(daemonPid(program), 'SIGKILL')
        start()
      },
    }
    prepareAcceptance(stage, (await startKafkaDoor(program, 'other', [])).native)
  }, 60_000)
  afterAll(() => program?.stop())

  for (const each of acceptanceLines) {
    if (door === 'kafka' && each.isOfDaemon) continue
    it(`${each.number}: ${each.line}`, () => runAcceptanceLine(stage, each), 120_000)
  }

  it.runIf(door === 'kafka')('18: what is only of the daemon is one line and 2', () => {
    const outcome = program.shell('stream produce t -p 0 --value x --expect-offset 5')
    expect(outcome).toMatchObject({ status: 2, stdout: '' })
    expect(outcome.stderr).toMatch(/^stream: produce: [^\n]+\n$/)
  })
})

function daemonPid(program: Program): number {
  const said = program.ok('stream daemon status --json', own)
  return (JSON.parse(said) as { pid: number }).pid
}

describe('without any configuration', () => {
  it('1000 lines through a daemon that starts itself', () => {
    const fresh = new Program()
    try {
      expect(fresh.ok('seq 1000 | stream produce numbers && stream cat numbers | tail -1')).toBe(
        '1000\n',
      )
    } finally {
      fresh.stop()
    }
  })
})
