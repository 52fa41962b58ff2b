/** Users of a cluster: made at one daemon, they count at the Kafka doors of all. Real daemons and a real etcd. */
import { writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ProcessCluster } from '../support/cluster.ts'
import { hasNoEtcd } from '../support/etcd.ts'

describe.skipIf(hasNoEtcd)('users of a cluster', () => {
  let cluster: ProcessCluster
  beforeAll(async () => {
    cluster = await ProcessCluster.start({
      config: ['sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512'],
    })
    writeFileSync(cluster.program.path('pw'), 's3cret', { mode: 0o600 })
  }, 60_000)
  afterAll(() => cluster?.stop())

  it('log in at every door until they are deleted, whoever was asked to make them', async () => {
    const { program, daemons } = cluster
    for (const [index, { address }] of daemons.entries()) {
      program.ok(`stream users set u${index} --password-file pw -b ${address}`)
    }
    const first = daemons[0]?.address
    expect(program.ok(`stream users list -b ${first} | cut -f1 | sort -u`)).toBe('u0\nu1\nu2\n')
    const listAs = (user: string, kafkaAddress: string) => {
      program.ok(
        `stream context set c --broker ${kafkaAddress} -X sasl.username=${user} --secret sasl.password=file:${program.path('pw')}`,
      )
      return program.shell('stream --context c topics list')
    }
    for (const { kafkaAddress } of daemons) {
      for (const user of ['u0', 'u1', 'u2']) {
        await cluster.until(() => listAs(user, kafkaAddress).status === 0, `${user} gets in`)
      }
    }
    program.ok(`stream users delete u1 -y -b ${daemons[2]?.address}`)
    for (const { kafkaAddress } of daemons) {
      await cluster.until(() => listAs('u1', kafkaAddress).status === 6, 'u1 is shut out')
    }
    expect(listAs('u0', daemons[0]?.kafkaAddress ?? '').status).toBe(0)
  }, 90_000)
})
