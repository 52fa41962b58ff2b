/** The README's page on growing, run as it stands there; a daemon's Kafka door stands in for the Kafka cluster at its end. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EtcdServer, hasNoEtcd } from '../support/etcd.ts'
import { GrowingHosts, growingSteps } from '../support/growing.ts'
import { startKafkaDoor } from '../support/kafka-door.ts'
import { Program } from '../support/program.ts'

describe.skipIf(hasNoEtcd)('README: growing', () => {
  let program: Program
  let etcd: EtcdServer
  let hosts: GrowingHosts
  beforeAll(async () => {
    program = new Program()
    etcd = await EtcdServer.start()
    const kafka = await startKafkaDoor(program, 'k1', [])
    hosts = await GrowingHosts.make(program, etcd.url, kafka.address)
  }, 60_000)
  afterAll(async () => {
    hosts?.stop()
    program?.stop()
    await etcd?.stop()
  })

  const steps = growingSteps()
  it('has its four steps', () => {
    expect([...new Set(steps.map(({ title }) => title))]).toEqual([
      'One daemon',
      'Offered beyond its host',
      'A cluster',
      'Apache Kafka',
    ])
  })
  for (const [index, step] of steps.entries())
    it(`${index + 1}: ${step.host}$ ${step.line}`, () => hosts.run(step), 120_000)
})
