/** The line protocol at the daemons of a cluster: each serves the partitions that it has, and says where the others are. */
import { connect, type Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ProcessCluster } from '../support/cluster.ts'
import { hasNoEtcd } from '../support/etcd.ts'
import { eventually } from '../support/program.ts'

class LineSocket {
  text = ''
  readonly socket: Socket

  constructor(path: string) {
    this.socket = connect(path)
    this.socket.on('data', (chunk: Buffer) => {
      this.text += chunk.toString()
    })
    this.socket.on('error', () => undefined)
  }

  send(line: string): void {
    this.socket.write(`${line}\n`)
  }

  said(pattern: RegExp): Promise<true> {
    return eventually(`${pattern} in ${this.text}`, () => pattern.test(this.text) || undefined)
  }

  /** The values of its messages, which are one line each. */
  get values(): string[] {
    return [...this.text.matchAll(/^MSG .*\n(.*)$/gm)].map(([, value]) => value ?? '')
  }
}

describe.skipIf(hasNoEtcd)('the line protocol in a cluster', () => {
  let cluster: ProcessCluster
  beforeAll(async () => {
    cluster = await ProcessCluster.start({
      hasLines: true,
      config: ['broker.session.timeout.ms=3000'],
    })
  }, 60_000)
  afterAll(() => cluster.stop())

  it('a replica sends what is committed, also when its leader dies; others say whom to ask', async () => {
    const { program, daemons } = cluster
    const broker = `-b ${cluster.addresses}`
    program.ok(`stream topics create t -r 2 --set min.insync.replicas=1 ${broker}`)
    const shown = program.ok(`stream topics describe t --json ${broker}`)
    const replicas = (/"replicas":\[([\d,]+)\]/.exec(shown)?.[1] ?? '').split(',').map(Number)
    const leader = Number(/"leader":(\d+)/.exec(shown)?.[1])
    const follower = replicas.find((id) => id !== leader) ?? 0
    const [atLeader, atFollower, atStranger] = [leader, follower, 6 - leader - follower].map(
      (id) => new LineSocket(program.path(`d${id}.line`)),
    )
    if (!(atLeader && atFollower && atStranger)) throw new Error('three sockets')
    atStranger.send('SUB t from=start')
    await atStranger.said(
      new RegExp(
        `^-ERR NOT_LEADER_OR_FOLLOWER t partition 0 is not on this daemon: ask daemon ${leader}\n$`,
      ),
    )
    atFollower.send('SUB t')
    await atFollower.said(/^\+SUB t 1\n$/)
    atFollower.send('LINE t refused')
    await atFollower.said(/^-ERR NOT_LEADER_OR_FOLLOWER /m)
    for (let at = 0; at < 20; at += 1) atLeader.send(`LINE t v${at}`)
    await atLeader.said(/^\+OK 0 19$/m)
    await eventually('the first records', () => atFollower.values.length === 20 || undefined)
    const dead = daemons.find(({ nodeId }) => nodeId === leader)
    if (dead === undefined) throw new Error('no leader')
    await cluster.end(dead)
    program.ok(`seq 20 39 | sed s/^/v/ | stream produce t -b ${cluster.addresses}`)
    await eventually('the others', () => atFollower.values.length >= 40 || undefined)
    expect(atFollower.values).toEqual(Array.from({ length: 40 }, (_, at) => `v${at}`))
    expect(atFollower.text).not.toContain('-END')
  }, 60_000)
})
