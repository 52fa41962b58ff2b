/** The runbook of `stream help cluster`, line by line: hosts are directories, each with a home and a daemon of its own. */
import { mkdirSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { commands } from '../../cmd/commands.ts'
import { clusterText } from '../../cmd/help-cluster.ts'
import { EtcdServer, freePorts, hasNoEtcd } from '../support/etcd.ts'
import { eventually, Program } from '../support/program.ts'

const HOSTS = ['h1', 'h2', 'h3', 'h4']

interface Step {
  readonly section: string
  /** undefined: anywhere. */
  readonly host: string | undefined
  readonly line: string
}

function steps(): Step[] {
  const found: Step[] = []
  let section = ''
  for (const text of clusterText.split('\n')) {
    const match = /^ {2}(h\d)?\$ (.+)$/.exec(text)
    if (match !== null) found.push({ section, host: match[1], line: match[2] ?? '' })
    else if (/^\S/.test(text)) section = text
  }
  return found
}

describe.skipIf(hasNoEtcd)('the runbook', () => {
  let program: Program
  let etcd: EtcdServer
  const ports = new Map<string, number>()
  beforeAll(async () => {
    program = new Program()
    etcd = await EtcdServer.start()
    const free = await freePorts(HOSTS.length)
    for (const [index, host] of HOSTS.entries()) {
      ports.set(host, free[index] ?? 0)
      mkdirSync(program.path(host))
      mkdirSync(program.path(host, 'run'), { mode: 0o700 })
    }
    run('h1', 'stream topics create orders --partitions 4')
    run('h1', 'seq 1000 | stream produce orders')
    run('h1', 'stream consume orders -g nightly --from start --until-end')
  })
  afterAll(async () => {
    for (const host of HOSTS) program?.shell('stream daemon stop', { environment: homeOf(host) })
    program?.stop()
    await etcd?.stop()
  })

  const homeOf = (host: string): Record<string, string> => ({
    HOME: program.path(host),
    XDG_DATA_HOME: program.path(host, '.local/share'),
    XDG_STATE_HOME: program.path(host, 'state'),
    XDG_RUNTIME_DIR: program.path(host, 'run'),
    ETCD: etcd.url,
  })

  /** Hosts and ports as they are here. */
  const here = (text: string): string =>
    text.replace(/(h\d):9393/g, (_, host: string) => `127.0.0.1:${ports.get(host)}`)

  function attempt(host: string | undefined, line: string) {
    const broker = here('tcp://h1:9393,h2:9393,h3:9393')
    const environment =
      host === undefined ? { ETCD: etcd.url, STREAM_BROKER: broker } : homeOf(host)
    return program.shell(here(line), { environment, timeoutMs: 120_000 })
  }

  function run(host: string | undefined, line: string): string {
    const outcome = attempt(host, line)
    expect(outcome.status, `${host ?? ''}$ ${line}\n${outcome.stderr}`).toBe(0)
    return outcome.stdout
  }

  function leadsOf(broker: number): number {
    const rows = run(undefined, `stream cluster brokers | awk '$1 == ${broker} { print $5 }'`)
    return Number(rows)
  }

  const sections = [...new Set(steps().map(({ section }) => section))]

  it('has its lines under headings', () => {
    expect(sections).toEqual([
      'From one daemon to three',
      'Adding a daemon',
      'Restarting one, for an update',
      'Taking one away',
      'Replacing a disk, or a machine',
      'Losing etcd',
    ])
  })

  for (const name of sections) {
    it(`${name}: every line does what it says, and no record is missing`, async () => {
      const mine = steps().filter(({ section }) => section === name)
      const isEtcdAway = name === 'Losing etcd'
      const isRestart = name.startsWith('Restarting')
      const leadsBefore = isRestart ? leadsOf(3) : undefined
      if (isEtcdAway) await etcd.kill()
      for (const [index, { host, line }] of mine.entries()) {
        if (isEtcdAway && index === mine.length - 1) {
          await etcd.run()
          // Their next sign of life tells them that it is back.
          await eventually('the daemons hear of it', () =>
            attempt(undefined, 'stream check cluster').status === 0 ? true : undefined,
          )
        }
        const command = /^stream (\S+ \S+)/.exec(line)?.[1] ?? ''
        const isThere = commands.some((entry) => entry.name === command)
        // A command of another part, which may not be here yet.
        if (command === 'cluster forget' && !isThere) continue
        run(host, line)
      }
      expect(run(undefined, 'stream cat orders | sort -n | uniq | wc -l').trim()).toBe('1000')
      if (name.startsWith('Adding')) expect(leadsOf(4)).toBeGreaterThan(0)
      if (!isRestart) return
      expect(leadsBefore).toBeGreaterThan(10)
      expect(leadsOf(3)).toBe(leadsBefore)
    })
  }

  it('groups went along', () => {
    run(undefined, 'seq 1001 1005 | stream produce orders')
    const rest = run(undefined, 'stream consume orders -g nightly --until-end | sort -n')
    expect(rest).toBe('1001\n1002\n1003\n1004\n1005\n')
  })
})
