/** An etcd that comes back as an older copy of itself: daemons refuse it, and nothing is lost when an operator has decided. */
import { cpSync, rmSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ClusterDaemon, ProcessCluster } from '../support/cluster.ts'
import { hasNoEtcd } from '../support/etcd.ts'
import { ended } from '../support/program.ts'

const LINES = 200

describe.skipIf(hasNoEtcd)('an etcd restored from an old snapshot', () => {
  let cluster: ProcessCluster

  beforeAll(async () => {
    cluster = await ProcessCluster.start({ config: ['log.dir.reserve.bytes=0'] })
  }, 120_000)

  afterAll(async () => cluster?.stop())

  const shell = (line: string) => cluster.program.shell(line)
  const produce = (from: number, to: number): void => {
    const lines = Array.from({ length: to - from }, (_, at) => `${from + at}\n`).join('')
    cluster.program.ok(`stream --broker ${cluster.addresses} produce orders`, { input: lines })
  }
  const daemon = (nodeId: number): ClusterDaemon => cluster.daemons[nodeId - 1] as ClusterDaemon

  const until = (isSo: () => boolean, what: string): Promise<void> =>
    cluster.until(isSo, what, 90_000)

  it('is refused with one line, and every record is there after --restored', {
    timeout: 400_000,
  }, async () => {
    const { etcd, program } = cluster
    program.ok(`stream --broker ${cluster.addresses} topics create orders --partitions 3 -r 3`)
    produce(0, LINES)
    await etcd.kill()
    cpSync(etcd.directory, program.path('snapshot'), { recursive: true })
    await etcd.run()
    // What follows the old copy does not know: that broker 3 has left, and that others lead at later epochs.
    await cluster.end(daemon(3))
    await until(() => cluster.liveBrokers() === 2, 'broker 3 is fenced')
    produce(LINES, 2 * LINES)
    // The revision is written down some seconds after the change.
    await new Promise((resolve) => setTimeout(resolve, 6000))
    for (const nodeId of [1, 2]) await cluster.end(daemon(nodeId))

    await etcd.kill()
    rmSync(etcd.directory, { recursive: true })
    cpSync(program.path('snapshot'), etcd.directory, { recursive: true })
    await etcd.run()
    for (const nodeId of [1, 2]) {
      const refused = daemon(nodeId)
      refused.forgetLog()
      cluster.run(refused)
      if (refused.process === undefined) throw new Error('it was started')
      expect(await ended(refused.process)).not.toBe(0)
      refused.process = undefined
      const last = refused.log.trimEnd().split('\n').at(-1)
      expect(last).toMatch(
        /^stream: daemon: .*: the metadata store is older than the data directory/,
      )
      expect(last).toContain('start one daemon with --restored once, then the others')
    }

    const first = daemon(1)
    first.forgetLog()
    cluster.run(first, '--restored')
    await cluster.until(() => first.log.includes('counts from now on'), 'it is decided')
    for (const nodeId of [2, 3]) cluster.run(daemon(nodeId))
    await until(() => cluster.liveBrokers() === 3, 'all are back')
    const found = (): number[] =>
      shell(`stream --broker ${cluster.addresses} cat orders`)
        .stdout.split('\n')
        .slice(0, -1)
        .map(Number)
    await until(() => found().length === 2 * LINES, 'all records are back')
    produce(2 * LINES, 3 * LINES)
    expect(found().sort((a, b) => a - b)).toEqual(
      Array.from({ length: 3 * LINES }, (_, line) => line),
    )
    await cluster.end(daemon(2))
    cluster.run(daemon(2))
    await until(() => cluster.liveBrokers() === 3, 'a restart is not refused again')
  })
})
