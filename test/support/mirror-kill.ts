/**
 * A link into a cluster of three and a copy that is run again and again as by cron, both from one source behind a network that is
 * cut, while daemons and copies are killed at random: in the end both mirrors must be what the source is, and a group that read at
 * the source goes on in the cluster.
 */
import type { ChildProcess } from 'node:child_process'
import { ProcessCluster } from './cluster.ts'
import { EtcdServer, freePorts } from './etcd.ts'
import { Sites } from './mirror-sites.ts'
import { ended } from './program.ts'
import { Relay } from './relay.ts'

export interface MirrorKills {
  source: number
  cluster: number
  copyTarget: number
  copy: number
  cuts: number
}

export interface MirrorKillResult {
  readonly kills: MirrorKills
  readonly copies: number
  readonly records: number
  readonly seconds: number
  /** What is wrong in the end; empty: nothing. */
  readonly differences: string
}

const SETTLE_MS = 300_000

export async function runMirrorKills(
  seconds: number,
  say: (line: string) => void = () => undefined,
): Promise<MirrorKillResult> {
  const beginMs = performance.now()
  const etcd = await EtcdServer.start()
  const [port = 0, outside = 0] = await freePorts(2)
  const relay = await Relay.start(outside, port)
  const config = ['broker.session.timeout.ms=3000', 'offsets.topic.num.partitions=1']
  const cluster = await ProcessCluster.start({ config })
  const sites = new Sites()
  const kills: MirrorKills = { source: 0, cluster: 0, copyTarget: 0, copy: 0, cuts: 0 }
  const far = `tcp://127.0.0.1:${outside}`
  const environment = (): Record<string, string> => ({
    ...sites.environment,
    F: far,
    K: cluster.addresses,
  })
  const ok = (line: string, timeoutMs = SETTLE_MS): string =>
    sites.program.ok(line, { environment: environment(), timeoutMs })
  try {
    sites.start('a', [
      ...['--etcd', etcd.url, '--node-id', '1', '--listen', `tcp://127.0.0.1:${port}`],
      ...['--advertise', far, ...config.flatMap((setting) => ['-X', setting])],
    ])
    sites.start('c')
    ok('stream topics create t -b $A --partitions 4; stream topics create tx -b $A --partitions 2')
    ok("stream mirror link west -b $K --source $F --topics '*' --sync groups")
    const load = sites.load(
      [
        'seq 5000 | stream produce t -b $A --batch-size 8KiB -q',
        'seq 2000 | stream produce tx -b $A --resume r$RANDOM --chunk 200 -q',
        "timeout -s KILL 0.4 bash -c '(seq 500; sleep 9) | stream produce tx -b $A --atomic -q'",
        'stream consume t -b $A -g g --from start -n 1000 --timeout 5s -q >> seen',
      ].join('; '),
    )
    let isOver = false
    let copies = 0
    let copying: ChildProcess | undefined
    const cron = (async () => {
      while (!isOver) {
        copies += 1
        copying = sites.program.start(
          'bash',
          ['-c', "exec stream mirror $F -b $C --topics 't*' -q --timeout 30s"],
          {
            stdio: ['ignore', 'ignore', 'ignore'],
            env: { ...sites.program.environment, ...environment() },
          },
        )
        await ended(copying)
        await pause(200)
      }
    })()
    const deadlineMs = performance.now() + seconds * 1000
    while (performance.now() < deadlineMs) {
      await pause(300 + Math.random() * 2500)
      const chance = Math.random()
      if (chance < 0.2) {
        kills.source += 1
        await sites.end('a')
        sites.start('a')
      } else if (chance < 0.5) {
        kills.cluster += 1
        const daemon = cluster.daemons[Math.floor(Math.random() * cluster.daemons.length)]
        if (daemon === undefined) continue
        await cluster.end(daemon)
        await pause(Math.random() * 5000)
        cluster.run(daemon)
      } else if (chance < 0.6) {
        kills.copyTarget += 1
        await sites.end('c')
        sites.start('c')
      } else if (chance < 0.8) {
        if (copying?.exitCode === null && copying.kill('SIGKILL')) kills.copy += 1
      } else {
        kills.cuts += 1
        if (chance < 0.9) relay.reset()
        else {
          relay.cut()
          await pause(300 + Math.random() * 4000)
          relay.heal()
        }
      }
      say(JSON.stringify(kills))
    }
    ok('touch over')
    await load.end
    isOver = true
    await cron
    await cluster.until(() => cluster.liveBrokers() === 3, 'all are up', 60_000)
    let differences = ''
    const check = (what: string, line: string): void => {
      const { status, stdout, stderr } = sites.program.shell(line, {
        environment: environment(),
        timeoutMs: SETTLE_MS,
      })
      if (status !== 0)
        differences += `${what}: exit ${status}: ${stderr.trim() || stdout.trim()}; `
      else say(`${what}: as it should be`)
    }
    check('a last copy', "stream mirror $F -b $C --topics 't*'")
    check('verify of the copy', "stream mirror verify $F -b $C --topics 't*'")
    check('the link is level', 'stream mirror lag west -b $K --wait-until 0 --timeout 2m')
    check('verify of the link', 'stream mirror verify west -b $K')
    // The group reads the rest in the cluster: what it saw at the source and what it sees here is all there is.
    await pause(12_000)
    check('promotion', 'stream mirror promote west -b $K --when-caught-up -y --timeout 2m')
    check('the group goes on', 'stream consume t -b $K -g g --until-end -q >> seen')
    check(
      'the group has seen all',
      '[ "$(sort -u seen | wc -l)" = 5000 ] && [ "$(wc -l < seen)" -ge "$(stream cat t -b $K | wc -l)" ]',
    )
    const records = Number(ok('stream cat t tx -b $A | wc -l'))
    return { kills, copies, records, seconds: (performance.now() - beginMs) / 1000, differences }
  } finally {
    await relay.stop()
    await sites.end('a')
    await sites.end('c')
    sites.stop()
    await cluster.stop()
    await etcd.stop()
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
