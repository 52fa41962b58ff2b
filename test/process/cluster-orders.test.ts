/** Three daemons and an etcd as processes: what an operator does with brokers and partitions. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ClusterDaemon, ProcessCluster } from '../support/cluster.ts'
import { hasNoEtcd } from '../support/etcd.ts'

const LINES = 500
/** A command that meets a daemon just as it dies may take its whole time. */
const PATIENCE_MS = 90_000

interface BrokerRow {
  readonly id: number
  readonly state: string
  readonly leads: number
  readonly replicas: number
}

interface PartitionRow {
  readonly leader: number | null
  readonly replicas: readonly number[]
  readonly isr: readonly number[]
  readonly offline: readonly number[]
}

describe.skipIf(hasNoEtcd)('orders to a cluster of daemons', () => {
  let cluster: ProcessCluster

  beforeAll(async () => {
    cluster = await ProcessCluster.start({
      config: [
        ...['default.replication.factor=2', 'log.dir.reserve.bytes=0'],
        'broker.session.timeout.ms=4000',
      ],
    })
    ok('topics create orders --partitions 3 -r 2')
    const lines = Array.from({ length: LINES }, (_, line) => `${line}\n`).join('')
    cluster.program.ok(`stream --broker ${cluster.addresses} produce orders`, { input: lines })
  }, 120_000)

  afterAll(async () => cluster?.stop())

  const run = (words: string) =>
    cluster.program.shell(`stream --broker ${cluster.addresses} ${words}`)
  const ok = (words: string): string =>
    cluster.program.ok(`stream --broker ${cluster.addresses} ${words}`)
  const rows = <T>(words: string): T[] =>
    ok(`${words} --json`)
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as T)
  const brokers = () => rows<BrokerRow>('cluster brokers')
  const partitions = (topic: string): readonly PartitionRow[] =>
    rows<{ detail: PartitionRow[] }>(`topics describe ${topic}`)[0]?.detail ?? []
  const until = (isSo: () => boolean, what: string): Promise<void> =>
    cluster.until(isSo, what, PATIENCE_MS)
  const daemon = (nodeId: number): ClusterDaemon => cluster.daemons[nodeId - 1] as ClusterDaemon
  const allThere = (topic = 'orders', count = LINES): void => {
    const found = ok(`cat ${topic}`).split('\n').slice(0, -1)
    expect(found.map(Number).sort((a, b) => a - b)).toEqual(
      Array.from({ length: count }, (_, line) => line),
    )
  }

  it('reassign adds replicas and takes them away', { timeout: 120_000 }, () => {
    ok('cluster reassign --topics orders --replicas 3 --wait -y')
    for (const { replicas, isr } of partitions('orders')) {
      expect([...replicas].sort()).toEqual([1, 2, 3])
      expect([...isr].sort()).toEqual([1, 2, 3])
    }
    ok('cluster reassign --topics orders --replicas 2 --brokers 1,2 --wait -y')
    for (const { replicas } of partitions('orders')) expect([...replicas].sort()).toEqual([1, 2])
    allThere()
  })

  it('drain takes all off a broker, and --undo puts it back', { timeout: 300_000 }, async () => {
    ok('cluster reassign --topics orders --brokers 2,3 --wait -y')
    ok('cluster drain 3 --wait -y')
    expect(brokers().find(({ id }) => id === 3)).toMatchObject({ leads: 0, replicas: 0 })
    allThere()
    ok('cluster drain 3 --undo --wait -y')
    for (const { replicas, isr } of partitions('orders')) {
      expect([...replicas].sort()).toEqual([2, 3])
      expect([...isr].sort()).toEqual([2, 3])
    }
    allThere()
  })

  it('a broker that is down is fenced, and elect gives its partitions back', {
    timeout: 300_000,
  }, async () => {
    ok('cluster reassign --topics orders --brokers 1,2 --wait -y')
    ok('cluster elect')
    await cluster.end(daemon(2))
    await until(
      () => brokers().find(({ id }) => id === 2)?.state === 'fenced',
      'broker 2 is fenced',
    )
    await until(() => partitions('orders').every(({ leader }) => leader === 1), 'broker 1 leads')
    for (const { offline } of partitions('orders')) expect(offline).toEqual([2])
    const refused = run('cluster elect --topics orders')
    expect(refused.status).toBe(1)
    expect(refused.stderr).toContain('the preferred replica, broker 2, is not alive')
    cluster.run(daemon(2))
    await until(
      () => partitions('orders').every(({ isr }) => isr.length === 2),
      'all are in sync again',
    )
    ok('cluster elect')
    for (const { leader, replicas } of partitions('orders')) expect(leader).toBe(replicas[0])
    allThere()
  })

  it('an unclean election is asked for, and only then takes place', {
    timeout: 300_000,
  }, async () => {
    ok('topics create risky -r 2 --set min.insync.replicas=1')
    const [row] = partitions('risky')
    const [leader = 0, follower = 0] = row?.replicas ?? []
    expect(row?.leader).toBe(leader)
    cluster.program.ok(`printf '0\\n1\\n' | stream --broker ${cluster.addresses} produce risky`)
    await cluster.end(daemon(follower))
    await until(
      () => brokers().find(({ id }) => id === follower)?.state === 'fenced',
      'the follower is fenced',
    )
    await until(() => partitions('risky')[0]?.isr.length === 1, 'the follower has left')
    cluster.program.ok(`printf '2\\n' | stream --broker ${cluster.addresses} produce risky`)
    await cluster.end(daemon(leader))
    cluster.run(daemon(follower))
    await until(
      () => brokers().find(({ id }) => id === follower)?.state === 'live',
      'the follower is back',
    )
    await until(() => partitions('risky')[0]?.leader === null, 'nobody leads')
    expect(run('cluster elect --unclean').status).toBe(2)
    ok('cluster elect --unclean -y --topics risky')
    expect(partitions('risky')[0]?.leader).toBe(follower)
    allThere('risky', 2)
    cluster.run(daemon(leader))
    await until(() => partitions('risky')[0]?.isr.length === 2, 'both are in sync')
    allThere('risky', 2)
  })

  it('forget takes a drained broker out; started again it joins anew', {
    timeout: 300_000,
  }, async () => {
    const held = run('cluster forget 3 -y')
    expect(held.status).toBe(8)
    ok('cluster drain 3 --wait -y')
    const alive = run('cluster forget 3 -y')
    expect(alive.stderr).toContain('broker 3 is alive; stop it first')
    expect(alive.status).toBe(8)
    await cluster.end(daemon(3), 'SIGTERM')
    await until(
      () => brokers().find(({ id }) => id === 3)?.state === 'fenced',
      'broker 3 is fenced',
    )
    ok('cluster forget 3 -y')
    expect(brokers().map(({ id }) => id)).toEqual([1, 2])
    expect(run('cluster forget 3 -y').status).toBe(3)
    cluster.run(daemon(3))
    await until(() => cluster.liveBrokers() === 3, 'broker 3 is back')
    ok('cluster drain 3 --undo --wait -y')
    allThere()
    allThere('risky', 2)
  })
})
