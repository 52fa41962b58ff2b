/** A batch on one daemon's disk that became another sound one: real daemons find it, and operators see it. */
import { readFileSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  baseOffsetAt,
  batchBytesAt,
  lastOffsetAt,
  stampCrc,
} from '../../src/record/batch-layout.ts'
import { ProcessCluster } from '../support/cluster.ts'
import { hasNoEtcd } from '../support/etcd.ts'

const TEST_MS_MAX = 60_000

describe.skipIf(hasNoEtcd)('a cluster of three', { timeout: TEST_MS_MAX }, () => {
  let cluster: ProcessCluster
  beforeAll(async () => {
    cluster = await ProcessCluster.start({
      config: ['broker.session.timeout.ms=3000', 'stream.scrub.interval.ms=1000'],
    })
  }, 60_000)
  afterAll(() => cluster?.stop())

  it('names the batch in the log of the follower, shows it in status and check, and changes nothing', async () => {
    const { program } = cluster
    const stream = (words: string) => `stream -b ${cluster.addresses} ${words}`
    program.ok(stream('topics create t -r 3'))
    for (const first of [1, 101, 201]) {
      program.ok(
        `seq ${first} ${first + 99} | ${stream('produce t --acks all --compression none')}`,
      )
    }
    const leaderId = Number(program.ok(stream('topics describe t -o tsv')).split('\t')[2])
    const [poor] = cluster.daemons.filter(({ nodeId }) => nodeId !== leaderId)
    if (poor === undefined) throw new Error('nobody follows')
    expect(poor.log).not.toContain('a batch differs')
    await cluster.end(poor)
    const path = program.path(`d${poor.nodeId}/t-0/00000000000000000000.log`)
    const bytes = readFileSync(path)
    let at = 0
    while (lastOffsetAt(bytes, at) < 150) at += batchBytesAt(bytes, at)
    // The last character of its last value.
    const place = at + batchBytesAt(bytes, at) - 2
    bytes[place] = (bytes[place] as number) ^ 1
    stampCrc(bytes, at)
    writeFileSync(path, bytes)
    cluster.run(poor)
    await cluster.until(() => poor.log.includes('a batch differs'), 'the batch is found')
    const line = poor.log.split('\n').find((each) => each.includes('a batch differs')) ?? ''
    const offsets = `${baseOffsetAt(bytes, at)} to ${lastOffsetAt(bytes, at)}`
    for (const words of [offsets, 't-0', 'stream dump', 'stream cluster reassign']) {
      expect(line).toContain(words)
    }
    const seen = program.shell(`stream -b ${poor.address} check`)
    expect(seen.status).toBe(1)
    expect(seen.stdout).toMatch(/^crit\tdiffering\t\S+\t1\t0$/m)
    const metrics = program.shell(`stream -b ${poor.address} check --prometheus`).stdout
    expect(metrics).toMatch(/differing.* 1$/m)
    const status = program.ok(`stream -b ${poor.address} daemon status --json`)
    expect(JSON.parse(status)).toMatchObject({ differing: 1, damaged: 0 })
    expect(Buffer.compare(readFileSync(path), bytes)).toBe(0)
    for (const other of cluster.daemons) {
      if (other !== poor) expect(other.log).not.toContain('a batch differs')
    }
  })
})
