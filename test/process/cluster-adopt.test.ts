/** `stream cluster adopt` as a user has it: a single daemon's data go on in a cluster, and grow replicas there. */
import { existsSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EtcdServer, freePorts, hasNoEtcd } from '../support/etcd.ts'
import { Program } from '../support/program.ts'

describe.skipIf(hasNoEtcd)('cluster adopt', () => {
  let program: Program
  let etcd: EtcdServer
  const addresses: string[] = []
  beforeAll(async () => {
    program = new Program()
    etcd = await EtcdServer.start()
    for (const port of await freePorts(2)) addresses.push(`tcp://127.0.0.1:${port}`)
    program.ok('stream topics create orders --partitions 2')
    program.ok('seq 100 | stream produce orders --partition 1')
    program.ok('stream consume orders -g nightly --from start --until-end')
  })
  afterAll(async () => {
    for (const address of addresses) program?.shell(`stream daemon stop -b ${address}`)
    program?.stop()
    await etcd?.stop()
  })

  it('refuses what it cannot do, in one line each, and changes nothing', () => {
    const cases: readonly (readonly [line: string, exit: number, says: RegExp])[] = [
      ['stream cluster adopt -y', 2, /--etcd is missing/],
      [`stream cluster adopt --etcd ${etcd.url} -y`, 8, /locked by another process/],
      ['stream daemon stop && stream cluster adopt --etcd ftp://x -y', 2, /not an address of etcd/],
      [`stream cluster adopt --etcd ${etcd.url} -X linger.ms=1 -y`, 2, /-X/],
      [`stream cluster adopt --etcd ${etcd.url} --cluster 'a b' -y`, 2, /cluster name a b/],
      [`stream cluster adopt --etcd ${etcd.url} --data /nowhere -y`, 1, /\/nowhere: holds no data/],
      [`stream cluster adopt --etcd ${etcd.url}`, 2, /to agree beforehand: -y/],
      ['stream cluster adopt --etcd http://127.0.0.1:1 -y', 4, /etcd/],
    ]
    for (const [line, exit, says] of cases) {
      const outcome = program.shell(line)
      expect([outcome.status, outcome.stdout], `${line}\n${outcome.stderr}`).toEqual([exit, ''])
      expect(outcome.stderr).toMatch(says)
      expect(outcome.stderr.trimEnd().split('\n')).toHaveLength(1)
    }
    expect(program.ok('stream cat orders | wc -l').trim()).toBe('100')
    program.ok('stream daemon stop')
  })

  it('moves the data, once', () => {
    expect(program.ok(`stream cluster adopt --etcd ${etcd.url} --dry-run`)).toMatch(
      /^would move 2 topics/,
    )
    expect(program.ok(`stream cluster adopt --etcd ${etcd.url} -y`)).toMatch(/^moved 2 topics/)
    expect(existsSync(program.path('data/stream/stream-moved'))).toBe(true)
    const again = program.shell(`stream cluster adopt --etcd ${etcd.url} -y`)
    expect([again.status, again.stdout]).toEqual([8, ''])
    expect(again.stderr).toMatch(/has been moved already, to cluster default/)
    const alone = program.shell('stream daemon start')
    expect(alone.status).not.toBe(0)
    expect(alone.stderr).toMatch(/belongs to cluster default/)
  })

  it('goes on where it was: records, settings, groups, nothing missing', () => {
    const [address] = addresses
    program.ok(
      `stream daemon start --etcd ${etcd.url} --node-id 1 --data data/stream --listen ipc://$PWD/d1.sock --listen ${address}`,
    )
    const broker = `-b ${address}`
    expect(program.ok(`stream cat orders ${broker} | wc -l`).trim()).toBe('100')
    program.ok(`seq 5 | stream produce orders ${broker}`)
    const rest = program.ok(`stream consume orders -g nightly --until-end ${broker}`)
    expect(rest).toBe('1\n2\n3\n4\n5\n')
    expect(program.ok('cat state/stream/*.log')).not.toMatch(/may be missing/)
  })

  it('another daemon joins the cluster', () => {
    program.ok(
      `stream daemon start --etcd ${etcd.url} --node-id 2 --data second --listen ipc://$PWD/d2.sock --listen ${addresses[1]}`,
    )
    const brokers = program.ok(
      `stream cluster brokers --json -b ${addresses.join(',')}`.replace(',tcp://', ','),
    )
    expect(brokers.trim().split('\n')).toHaveLength(2)
  })
})
