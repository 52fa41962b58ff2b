import { describe, expect, it } from 'vitest'
import type { Services } from '../../../daemon/apis/handler.ts'
import { ParkedFetches } from '../../../daemon/apis/parked-fetches.ts'
import { Admission } from '../../../daemon/doors/admission.ts'
import type { Daemon } from '../../../daemon/doors/daemon.ts'
import { LineSession } from '../../../daemon/doors/line-session.ts'
import type { Link } from '../../../src/ports/net.ts'
import { SimRandom } from '../../sim/sim-random.ts'
import { batchOf } from '../batches.ts'
import type { Client, DaemonWorld } from '../daemon-world.ts'
import { LineClient, started } from './line-client.ts'

/** Takes nothing of what it is sent until it takes all. */
class SlowLink implements Link {
  readonly id = 1
  readonly peer = 'slow'
  readonly closable = true
  text = ''
  queuedBytes = 0
  isClosed = false
  onSent: ((text: string) => void) | undefined
  #queued: string[] = []
  #isTaking = false
  readonly admission: Admission
  readonly #session: LineSession

  constructor(w: DaemonWorld, { broker }: Daemon, waitersMax = 10) {
    const limits = { requestsMax: 10, requestBytesMax: 1 << 20, queuedBytesMax: 1 << 26 }
    this.admission = new Admission(w.time, limits, undefined)
    this.#session = new LineSession(this, {
      services: { broker, parkedFetches: new ParkedFetches(waitersMax) } as unknown as Services,
      admission: this.admission,
      requestsMax: 10,
      requestTimeoutMs: 1000,
      recordBytesMax: 1 << 20,
    })
  }

  ask(line: string): void {
    this.#session.onMessage([Buffer.from(line)])
  }

  send(frames: readonly Uint8Array[]): void {
    for (const frame of frames) {
      this.queuedBytes += frame.length
      const text = Buffer.from(frame).toString('latin1')
      this.#queued.push(text)
      this.onSent?.(text)
    }
    if (this.#isTaking) this.#take()
  }

  takesAll(): void {
    this.#isTaking = true
    this.#take()
    this.#session.onDrain()
  }

  /** About so many bytes of what is queued. */
  takes(bytes: number): void {
    for (let left = bytes; left > 0 && this.#queued.length > 0; ) {
      const first = this.#queued.shift() ?? ''
      this.text += first
      this.queuedBytes -= first.length
      left -= first.length
    }
    this.#session.onDrain()
  }

  close(): void {
    this.isClosed = true
  }

  endsInput(): void {
    this.#session.onEnd()
  }

  #take(): void {
    this.text += this.#queued.join('')
    this.#queued = []
    this.queuedBytes = 0
  }
}

/** Without their timestamps, which the world's clock gives. */
function untimed(lines: readonly string[]): string[] {
  return lines.map((line) => line.replace(/^(MSG \S+ \d+ \d+) \d+ /, '$1 '))
}

async function transaction(client: Client, values: readonly string[], committed: boolean) {
  const producer = await begun(client, values)
  await ended(client, producer, committed)
}

async function begun(client: Client, values: readonly string[]) {
  const { producerId, producerEpoch } = await client.call('InitProducerId', 5, {
    transactionalId: 'x',
    transactionTimeoutMs: 60_000,
  })
  const options = { producerId, producerEpoch, baseSequence: 0, isTransactional: true }
  await client.call('Produce', 12, {
    transactionalId: 'x',
    acks: -1,
    timeoutMs: 5000,
    topicData: [{ name: 't', partitionData: [{ index: 0, records: batchOf(values, options) }] }],
  })
  return { producerId, producerEpoch }
}

async function ended(
  client: Client,
  producer: { producerId: number; producerEpoch: number },
  committed: boolean,
) {
  await client.call('EndTxn', 5, { transactionalId: 'x', ...producer, committed })
}

describe('SUB', () => {
  it('from=start until=end sends all there is, byte for byte, and says that it is over', async () => {
    const { lines } = await started()
    await lines.says(
      'PUB t 1 ts=5\naPUB t 2 key=1 ts=6\nkbbPUB t -1 key=1 ts=7\nkPUB t 3 ts=8\nx\ny',
    )
    expect(await lines.says('SUB t from=start until=end\nPING\n')).toEqual([
      '+SUB t 1',
      '+PONG',
      ...['MSG t 0 0 5 -1 1', 'a', 'MSG t 0 1 6 1 2', 'kbb', 'MSG t 0 2 7 1 -1', 'k'],
      ...['MSG t 0 3 8 -1 3', 'x', 'y'],
      '+END t',
    ])
    expect(await lines.says('SUB t from=2 until=end\n')).toEqual([
      '+SUB t 1',
      ...['MSG t 0 2 7 1 -1', 'k', 'MSG t 0 3 8 -1 3', 'x', 'y'],
      '+END t',
    ])
    expect(await lines.says('SUB t until=end\n')).toEqual(['+SUB t 1', '+END t'])
    expect(lines.isClosed).toBe(false)
  })

  it('follows: what others write comes at once, after its greeting and once', async () => {
    const { w, client, lines } = await started()
    await client.produce('t', batchOf(['before']))
    expect(await lines.says('SUB t\n', 20_000)).toEqual(['+SUB t 1'])
    const before = w.time.monotonicMs()
    lines.text = ''
    await client.produce('t', batchOf(['a', 'b'], { timestampMs: 1_790_000_000_000 }))
    await w.run(20)
    expect(untimed(lines.text.split('\n'))).toEqual([
      ...['MSG t 0 1 -1 1', 'a', 'MSG t 0 2 -1 1', 'b', ''],
    ])
    expect(w.time.monotonicMs() - before).toBeLessThan(200)
    const own = untimed(await lines.says('LINE t own\n'))
    expect(own.filter((line) => line !== '+OK 0 3')).toEqual(['MSG t 0 3 -1 3', 'own'])
    expect(own).toHaveLength(3)
  })

  it('all partitions, one of them, and those that are added', async () => {
    const { w, client, lines } = await started()
    await client.create('p', { partitions: 2 })
    await client.produce('p', batchOf(['zero']), { partition: 0 })
    await client.produce('p', batchOf(['one']), { partition: 1 })
    const all = untimed(await lines.says('SUB p from=start\n'))
    expect(all[0]).toBe('+SUB p 2')
    expect(all.slice(1).join(' ')).toMatch(
      /^(MSG p 0 0 -1 4 zero MSG p 1 0 -1 3 one|MSG p 1 0 -1 3 one MSG p 0 0 -1 4 zero)$/,
    )
    const one = new LineClient(w)
    expect(untimed(await one.says('SUB p partition=1 from=start until=end\n'))).toEqual([
      '+SUB p 1',
      ...['MSG p 1 0 -1 3', 'one'],
      '+END p',
    ])
    lines.text = ''
    await client.call('CreatePartitions', 3, {
      topics: [{ name: 'p', count: 3, assignments: null }],
      timeoutMs: 1000,
      validateOnly: false,
    })
    await client.produce('p', batchOf(['two']), { partition: 2 })
    await w.run(6000)
    expect(untimed(lines.text.split('\n'))).toEqual(['MSG p 2 0 -1 3', 'two', ''])
  })

  it('compressed batches are opened; a position inside a batch leaves out what is before it', async () => {
    const { client, lines } = await started()
    for (const codec of ['gzip', 'zstd'] as const) {
      await client.produce('t', batchOf(['a', 'b', 'c'], { codec }))
    }
    expect(untimed(await lines.says('SUB t from=2 until=end\n'))).toEqual([
      '+SUB t 1',
      ...[
        'MSG t 0 2 -1 1',
        'c',
        'MSG t 0 3 -1 1',
        'a',
        'MSG t 0 4 -1 1',
        'b',
        'MSG t 0 5 -1 1',
        'c',
      ],
      '+END t',
    ])
  })

  it('what a transaction writes comes with its commit, and never when it is aborted', async () => {
    const { w, client, lines } = await started({
      texts: { 'transaction.state.log.num.partitions': '1' },
    })
    await transaction(client, ['gone'], false)
    await transaction(client, ['kept'], true)
    expect(untimed(await lines.says('SUB t from=start\n'))).toEqual([
      '+SUB t 1',
      ...['MSG t 0 2 -1 4', 'kept'],
    ])
    lines.text = ''
    const open = await begun(client, ['later'])
    await client.produce('t', batchOf(['plain']))
    await w.run(500)
    expect(lines.text).toBe('')
    await ended(client, open, true)
    await w.run(500)
    expect(untimed(lines.text.split('\n'))).toEqual([
      ...['MSG t 0 4 -1 5', 'later', 'MSG t 0 5 -1 5', 'plain', ''],
    ])
    expect(untimed(await new LineClient(w).says('SUB t from=4 until=end\n')).at(-1)).toBe('+END t')
  })

  it('is refused with what to do, and other requests go on', async () => {
    const { client, lines } = await started()
    await client.create('p', { partitions: 2 })
    await client.produce('t', batchOf(['a']))
    expect(await lines.says('SUB nix\nSUB p from=3\nSUB p partition=2\nSUB t from=7\n')).toEqual([
      '-ERR UNKNOWN_TOPIC_OR_PARTITION no topic nix; create it: stream topics create nix',
      '-ERR INVALID_REQUEST from=3: p has 2 partitions, name one: partition=N',
      '-ERR UNKNOWN_TOPIC_OR_PARTITION p has no partition 2, only 2',
      '-ERR OFFSET_OUT_OF_RANGE from=7: t partition 0 has the offsets 0 to 1',
    ])
    expect(
      await lines.says('SUB p partition=0\nSUB p partition=1\nSUB p\nSUB p partition=0\n'),
    ).toEqual([
      '+SUB p 1',
      '+SUB p 1',
      '-ERR INVALID_REQUEST p is subscribed to already',
      '-ERR INVALID_REQUEST p is subscribed to already',
    ])
    expect(await lines.says('SUB t at=5\n')).toEqual([
      '-ERR BAD_REQUEST "at=5" is no option of SUB; the connection ends here',
    ])
    expect(lines.isClosed).toBe(true)
  })

  it('the end of the input ends it, but for what is until=end; QUIT ends all', async () => {
    const { w, daemon, client, lines } = await started()
    await client.produce('t', batchOf(['a']))
    expect(await lines.says('SUB t from=start until=end\nQUIT\n')).toEqual(['+SUB t 1', '+BYE'])
    expect(lines.isClosed).toBe(true)
    const daemonSide = (request: string) => {
      const link = new SlowLink(w, daemon)
      link.takesAll()
      link.ask(request)
      link.endsInput()
      return link
    }
    const endless = daemonSide('SUB t\n')
    expect([endless.text, endless.isClosed]).toEqual(['+SUB t 1\n', true])
    const bounded = daemonSide('SUB t from=start until=end\n')
    await w.run(100)
    expect(bounded.text.endsWith('\na\n+END t\n')).toBe(true)
    expect(bounded.isClosed).toBe(true)
  })

  it('64 on one connection, and no more', async () => {
    const { client, lines } = await started()
    await client.create('many', { partitions: 70 })
    const asked = Array.from({ length: 66 }, (_, at) => `SUB many partition=${at}\n`).join('')
    const said = await lines.says(asked)
    expect(said.filter((line) => line === '+SUB many 1')).toHaveLength(64)
    expect(said.slice(64)).toEqual(
      Array.from(
        { length: 2 },
        () => '-ERR INVALID_REQUEST 64 subscriptions are the most on one connection',
      ),
    )
  })

  it('ends with a word when its topic is deleted, and may be asked for again', async () => {
    const { w, client, lines } = await started()
    await lines.says('SUB t\n')
    lines.text = ''
    await client.call('DeleteTopics', 6, { topics: [{ name: 't' }], timeoutMs: 1000 })
    await w.run(500)
    expect(lines.text).toMatch(/^-END t (UNKNOWN_TOPIC_OR_PARTITION|NOT_LEADER_OR_FOLLOWER) .*\n$/)
    await client.create('t')
    expect(await lines.says('SUB t\n')).toEqual(['+SUB t 1'])
  })

  it('does not go on in another topic of the same name', async () => {
    const { w, client, daemon } = await started()
    for (let at = 0; at < 40; at += 1) await client.produce('t', batchOf(['x'.repeat(100_000)]))
    const slow = new SlowLink(w, daemon)
    slow.ask('SUB t from=start\n')
    await w.run(500)
    await client.call('DeleteTopics', 6, { topics: [{ name: 't' }], timeoutMs: 1000 })
    await client.create('t')
    for (let at = 0; at < 50; at += 1) await client.produce('t', batchOf([`new ${at}`]))
    slow.takesAll()
    await w.run(500)
    expect(slow.text.endsWith('\n-END t UNKNOWN_TOPIC_OR_PARTITION t was deleted\n')).toBe(true)
    expect(slow.text).not.toContain('new')
  })

  it.each([
    ['1', 'synced before it is acknowledged'],
    ['1000', 'not synced'],
  ])(
    'a record is with its readers before it is acknowledged (flush.messages=%s: %s)',
    async (flush) => {
      const { w, client, daemon } = await started()
      await client.create('topic', { config: { 'flush.messages': flush } })
      const sent: string[] = []
      const opened = (request: string): SlowLink => {
        const link = new SlowLink(w, daemon)
        link.takesAll()
        link.onSent = (text) => sent.push(text.split(' ')[0] ?? '')
        link.ask(request)
        return link
      }
      opened('SUB topic\n')
      const writer = opened('PING\n')
      await w.run(100)
      writer.ask('PUB topic 1\na')
      await w.run(100)
      expect(sent).toEqual(['+SUB', '+PONG\n', 'MSG', '+OK'])
    },
  )

  it('waits where its partition has no leader for a while, or is not open yet', async () => {
    const { w, client, daemon, lines } = await started()
    const { table } = daemon.broker
    const find = table.find.bind(table)
    let isAway = false
    table.find = (topic, index) => (isAway ? undefined : find(topic, index))
    await lines.says('SUB t\n')
    lines.text = ''
    isAway = true
    await w.run(12_000)
    expect(lines.text).toBe('')
    isAway = false
    await client.produce('t', batchOf(['a']))
    await w.run(300)
    expect(untimed(lines.text.split('\n'))).toEqual(['MSG t 0 0 -1 1', 'a', ''])
  })

  it('a stop of the daemon does not wait for it, nor does a client that goes', async () => {
    const { w, daemon, client, lines } = await started()
    await lines.says('SUB t\n')
    const gone = new LineClient(w)
    await gone.says('SUB t\n')
    gone.link.close()
    await w.run(50)
    await client.produce('t', batchOf(['a']))
    await w.run(50)
    const before = w.time.monotonicMs()
    await w.stop(daemon)
    expect(w.time.monotonicMs() - before).toBeLessThan(1000)
    expect(lines.isClosed).toBe(true)
    expect(w.said.filter((line) => line.startsWith('error'))).toEqual([])
  })

  it('a client that takes nothing is sent little, and all of the rest once it does', async () => {
    const { w, client, daemon } = await started()
    const values = Array.from({ length: 40 }, (_, at) => `${at}-${'x'.repeat(100_000)}`)
    for (const value of values) await client.produce('t', batchOf([value]))
    const slow = new SlowLink(w, daemon)
    slow.ask('SUB t from=start until=end\n')
    await w.run(2000)
    expect(slow.queuedBytes).toBeGreaterThan(500_000)
    expect(slow.queuedBytes).toBeLessThan(1_500_000)
    expect(daemon.requests).toBe(0)
    slow.takesAll()
    await w.run(2000)
    const found = slow.text.split('\n').filter((line) => /^\d/.test(line))
    expect(found).toEqual(values)
    expect(slow.text.endsWith('+END t\n')).toBe(true)
  })

  it('records that are deleted before they were sent end it aloud', async () => {
    const { w, client, daemon } = await started()
    for (let at = 0; at < 40; at += 1) await client.produce('t', batchOf(['x'.repeat(100_000)]))
    const slow = new SlowLink(w, daemon)
    slow.ask('SUB t from=start\n')
    await w.run(500)
    await client.call('DeleteRecords', 2, {
      topics: [{ name: 't', partitions: [{ partitionIndex: 0, offset: 39 }] }],
      timeoutMs: 1000,
    })
    slow.takesAll()
    await w.run(500)
    expect(slow.text.split('\n').at(-2)).toMatch(
      /^-END t OFFSET_OUT_OF_RANGE t partition 0: the records before 39 are gone, \d+ was next$/,
    )
  })

  it('without room among those that wait it looks now and then', async () => {
    const { w, client, daemon } = await started()
    const link = new SlowLink(w, daemon, 0)
    link.takesAll()
    link.ask('SUB t\n')
    await w.run(1000)
    await client.produce('t', batchOf(['a']))
    await w.run(200)
    expect(untimed(link.text.split('\n'))).toEqual(['+SUB t 1', 'MSG t 0 0 -1 1', 'a', ''])
  })

  it('whatever is written and however slowly it is read: each committed record once, in order', async () => {
    for (let seed = 0; seed < 15; seed += 1) {
      const { w, client, daemon } = await started({
        texts: { 'transaction.state.log.num.partitions': '1', 'log.segment.bytes': '1048576' },
      })
      const random = new SimRandom(`subscription ${seed}`)
      const slow = new SlowLink(w, daemon)
      const late = new SlowLink(w, daemon)
      const shareBytes = slow.admission.shareBytes
      const committed: string[] = []
      slow.ask('SUB t from=start\n')
      for (let step = 0; step < 30; step += 1) {
        const values = Array.from(
          { length: 1 + random.integer(4) },
          (_, at) => `${step}.${at}.${'x'.repeat(random.integer(3) === 0 ? 60_000 : 10)}`,
        )
        const kind = random.integer(4)
        if (kind === 0) await transaction(client, values, false)
        else {
          if (kind === 1) await transaction(client, values, true)
          else {
            const codec = random.pick(['none', 'gzip', 'zstd'] as const)
            await client.produce('t', batchOf(values, { codec }))
          }
          committed.push(...values)
        }
        slow.takes(random.integer(400_000))
        if (step === 15) late.ask('SUB t from=start until=end\n')
        await w.run(random.integer(30))
      }
      const half = committed.filter((value) => Number(value.split('.')[0]) <= 15)
      slow.takesAll()
      late.takesAll()
      await w.run(6000)
      const valuesOf = ({ text }: SlowLink) => [...text.matchAll(/^\d+\.\d+\.x*$/gm)].map(String)
      expect(valuesOf(slow)).toEqual(committed)
      expect(valuesOf(late)).toEqual(half)
      expect(late.text.endsWith('+END t\n')).toBe(true)
      for (const { admission } of [slow, late]) {
        // So that it counts anew.
        admission.sent(1 << 26)
        expect(admission.shareBytes).toBe(shareBytes)
      }
    }
  })
})
