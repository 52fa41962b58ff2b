/** Promotion while transactions at the source follow each other without a moment in which none is open. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Cluster } from '../../src/client/cluster.ts'
import { TransactionalProducer } from '../../src/client/transactional-producer.ts'
import { RealNet } from '../../src/io/real-net.ts'
import { RealRandom } from '../../src/io/real-random.ts'
import { RealTime } from '../../src/io/real-time.ts'
import { silentLog } from '../../src/ports/log.ts'
import { Sites } from '../support/mirror-sites.ts'
import { eventually } from '../support/program.ts'

let sites: Sites
beforeAll(() => {
  sites = new Sites()
  for (const name of ['s', 't']) sites.start(name)
}, 60_000)
afterAll(() => sites?.stop())

interface Writer {
  /** 20 records in a new transaction; resolves when they are there. */
  readonly begin: () => Promise<void>
  readonly commit: () => Promise<void>
  readonly close: () => void
}

async function writer(transactionalId: string, topic: string): Promise<Writer> {
  const [time, random] = [new RealTime(), new RealRandom()]
  const addresses = [sites.address('s')]
  const cluster = new Cluster(time, random, new RealNet(), silentLog, { addresses })
  await cluster.connect()
  const options = { transactionalId, timeoutMs: 60_000 }
  const producer = new TransactionalProducer(time, random, cluster, options)
  await producer.init()
  const lines = Buffer.from(`${transactionalId}\n`.repeat(20))
  return {
    begin: async () => {
      const sink = await producer.begin()
      await sink.prepare(topic)
      sink.appendLines(topic, 0, lines, 0, lines.length)
      await sink.flush()
    },
    commit: () => producer.commit(),
    close: () => cluster.close(),
  }
}

/** Two that take turns: each begins before the other has ended. @returns ends it */
async function overlap(topic: string): Promise<() => Promise<void>> {
  const writers = [await writer('left', topic), await writer('right', topic)]
  let isOver = false
  const run = async (): Promise<void> => {
    await writers[0]?.begin()
    for (let turn = 1; !isOver; turn += 1) {
      await writers[turn % 2]?.begin()
      await new Promise((resolve) => setTimeout(resolve, 100))
      await writers[(turn + 1) % 2]?.commit()
    }
    for (const each of writers) each.close()
  }
  const running = run()
  return async () => {
    isOver = true
    await running
  }
}

interface Envelope {
  readonly offset: number
  readonly value: string
}
const envelopes = (text: string): Envelope[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Envelope)
const wordsOf = ({ offset, value }: Envelope): string => `${offset} ${value}`

describe('transactions that always overlap', () => {
  it('hold back --when-caught-up, which says so; without it what is whole is promoted at once', async () => {
    sites.ok('stream topics create t -b $S; seq 100 | stream produce t -b $S')
    sites.ok('stream mirror link west -b $T --source $S --topics t')
    sites.ok('stream mirror lag west -b $T --wait-until 0 --timeout 30s')
    const end = await overlap('t')
    const shown = (): number => Number(sites.ok('stream mirror status west -b $T').split('\t')[5])
    await eventually('the first have come', () => (shown() > 140 ? true : undefined), 30_000)
    const held = sites.shell('stream mirror promote west -b $T --when-caught-up -y --timeout 4s')
    expect([held.status, held.stdout]).toEqual([7, ''])
    expect(held.stderr).toMatch(
      /^stream: mirror promote: west: timed out: t partition 0: \d+ offsets are missing, held back by transactions that are open at the source\n$/,
    )
    const waits = sites.shell(
      'timeout -s INT 14 stream mirror promote west -b $T --when-caught-up -y',
    )
    expect(waits.stderr).toMatch(/waiting: t partition 0: .* held back by transactions/)
    expect(sites.ok('stream mirror status west -b $T')).toMatch(/\tfollowing\t/)
    const before = shown()
    await eventually('it goes on', () => (shown() > before ? true : undefined), 30_000)
    const row = sites.ok('stream mirror promote west -b $T -y --timeout 30s').split('\t')
    const point = Number(row[3])
    // What was open is aborted, so what is written now is stable at once; the rest is whole, and the source's.
    sites.ok('echo own | stream produce t -b $T')
    expect(sites.ok('stream cat t -b $T | tail -1')).toBe('own\n')
    await end()
    const upTo = (at: string): string => sites.ok(`stream cat t -b ${at} --until 0=${point}`)
    const here = upTo('$T')
    expect(upTo('$S').slice(0, here.length)).toBe(here)
    const count = (word: string): number => here.split('\n').filter((line) => line === word).length
    expect([count('left') % 20, count('right') % 20]).toEqual([0, 0])
    expect(count('left') + count('right')).toBeGreaterThan(20)
    sites.ok('stream mirror verify west -b $T')

    // Back again: what the old side committed of transactions that were open at the point is aborted there too, and kept with the rest.
    const rows = (at: string): Envelope[] => envelopes(sites.ok(`stream cat t -b ${at} -o json`))
    sites.ok('stream txn abort left -b $S -y; stream txn abort right -b $S -y')
    const committed = rows('$S')
    sites.ok('stream mirror failback west -b $T --salvage lost -y')
    const lost = envelopes(sites.ok('cat lost'))
    sites.ok('stream mirror lag west -b $S --wait-until 0 --timeout 30s')
    sites.ok('stream verify t $T/t -b $S --offsets')
    const isThere = new Set(
      [...rows('$S').filter(({ offset }) => offset < point), ...lost].map(wordsOf),
    )
    expect(committed.map(wordsOf).filter((words) => !isThere.has(words))).toEqual([])
  }, 120_000)

  it('what is committed after the promotion is salvaged, though it began before; never behind one that is open', async () => {
    sites.ok('stream topics create back -b $S; seq 10 | stream produce back -b $S')
    sites.ok('stream mirror link back -b $T --source $S --topics back')
    const [ended, first, second] = [
      await writer('ended', 'back'),
      await writer('first', 'back'),
      await writer('second', 'back'),
    ]
    await ended.begin()
    await first.begin()
    await ended.commit()
    await second.begin()
    // Its marker is behind what is open, and stays at the source.
    await first.commit()
    const shown = (): string => sites.ok('stream mirror status back -b $T').split('\t')[5] ?? ''
    await eventually('what is stable at the source has come', () =>
      shown() === '30' ? true : undefined,
    )
    sites.ok('stream mirror promote back -b $T -y --timeout 30s')
    const plan = 'back\tback\t0\t51\t72\t21\n'
    expect(sites.ok('stream mirror failback back -b $T --dry-run')).toBe(plan)
    const refused = sites.shell('stream mirror failback back -b $T --salvage kept -y')
    expect([refused.status, refused.stdout]).toEqual([8, ''])
    expect(refused.stderr).toMatch(
      /^stream: mirror failback: back partition 0: a transaction is open at the old side at offset 51: .*; to see whose it is: stream txn list -b \S+; to end it: stream txn abort ID -b \S+; without --salvage all is cut\n$/,
    )
    // It is as it was: writable, and the transaction goes on.
    await second.commit()
    sites.ok('stream mirror failback back -b $T --salvage kept -y')
    const values = envelopes(sites.ok('cat kept')).map(wordsOf)
    expect(values).toEqual([
      ...Array.from({ length: 20 }, (_, index) => `${30 + index} first`),
      ...Array.from({ length: 20 }, (_, index) => `${51 + index} second`),
    ])
    sites.ok('stream mirror lag back -b $S --wait-until 0 --timeout 30s')
    sites.ok('stream verify back $T/back -b $S --offsets')
    for (const each of [ended, first, second]) each.close()
  }, 120_000)

  it('one that is left open holds back nothing that ended before it began', async () => {
    sites.ok('seq 10 | stream produce free -b $S --create --atomic')
    sites.ok('stream mirror link other -b $T --source $S --topics free')
    const open = await writer('open', 'free')
    await open.begin()
    sites.ok('stream mirror promote other -b $T --when-caught-up -y --timeout 30s')
    expect(sites.ok('stream cat free -b $T')).toBe(sites.ok('seq 10'))
    open.close()
  }, 60_000)
})
