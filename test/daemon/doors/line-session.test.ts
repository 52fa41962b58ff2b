import { describe, expect, it } from 'vitest'
import { recordsOf } from '../batches.ts'
import { DaemonWorld, ZMQ } from '../daemon-world.ts'
import { LINES, LineClient, started } from './line-client.ts'

describe('the line door', () => {
  it('acknowledges each PUB with its offset, in order, and the records are there', async () => {
    const { client, lines } = await started()
    expect(await lines.says('PUB t 1\na\nPUB t 2 key=1\nkbbLINE t c d\nPUB t -1 key=1\nk')).toEqual(
      ['+OK 0 0', '+OK 0 1', '+OK 0 2', '+OK 0 3'],
    )
    const { records } = await client.fetch('t', { offset: 0 })
    expect(recordsOf(records).map(({ key, value }) => [key, value])).toEqual([
      [null, 'a'],
      ['k', 'bb'],
      [null, 'c d'],
      ['k', null],
    ])
  })

  it('records that come together are one batch', async () => {
    const { client, daemon, lines } = await started()
    const said = await lines.says(Array.from({ length: 500 }, (_, at) => `LINE t ${at}\n`).join(''))
    expect(said).toEqual(Array.from({ length: 500 }, (_, at) => `+OK 0 ${at}`))
    const { records } = await client.fetch('t', { offset: 0 })
    expect(recordsOf(records).map(({ value }) => value)).toEqual(
      Array.from({ length: 500 }, (_, at) => `${at}`),
    )
    expect(daemon.broker.table.find('t', 0)?.log.segmentCount).toBe(1)
    expect(new DataView(records!.buffer, records!.byteOffset).getInt32(57)).toBe(500)
  })

  it('PING and INFO are answered in the order of the requests, behind what waits for the disk', async () => {
    const { lines } = await started()
    const said = await lines.says('PUB t 1\naPING\nINFO\nPUB t 1\nb')
    expect(said[0]).toBe('+OK 0 0')
    expect(said[1]).toBe('+PONG')
    expect(JSON.parse((said[2] ?? '').replace('+INFO ', ''))).toMatchObject({ v: 1, protocol: 2 })
    expect(said[3]).toBe('+OK 0 1')
  })

  it('takes records as large as INFO says, and none larger', async () => {
    const { lines } = await started()
    const [info] = await lines.says('INFO\n')
    const { recordBytesMax } = JSON.parse((info ?? '').replace('+INFO ', ''))
    const record = 'x'.repeat(recordBytesMax)
    const said = await lines.says(
      `PUB t ${recordBytesMax}\n${record}PUB t ${recordBytesMax + 1}\n${record}y`,
    )
    expect(said[0]).toBe('+OK 0 0')
    expect(said[1]).toMatch(/^-ERR MESSAGE_TOO_LARGE/)
  })

  it('an unknown topic is refused with what to do, unless the daemon makes topics', async () => {
    const { lines } = await started()
    expect(await lines.says('PUB nix 1\na\nPUB t 1\nb')).toEqual([
      '-ERR UNKNOWN_TOPIC_OR_PARTITION no topic nix; create it: stream topics create nix',
      '+OK 0 0',
    ])
    const making = await started({ texts: { 'auto.create.topics.enable': 'true' } })
    expect(await making.lines.says('PUB new 1\naPUB new 1\nbLINE t c\n', 2000)).toEqual([
      '+OK 0 0',
      '+OK 0 1',
      '+OK 0 0',
    ])
    expect(await making.lines.says('PUB b@d 1\nx')).toEqual([
      '-ERR UNKNOWN_TOPIC_OR_PARTITION no topic b@d; create it: stream topics create b@d',
    ])
  })

  it('keys go to the partition where every client puts them, partition= elsewhere', async () => {
    const { client, lines } = await started()
    await client.create('p', { partitions: 5 })
    const said = await lines.says(
      'PUB p 1 key=2\nk1xPUB p 1 key=2\nk1yPUB p 1 partition=4\nzPUB p 1 partition=5\nz',
    )
    const [first, second] = said
    expect(first?.split(' ')[1]).toBe(second?.split(' ')[1])
    expect(said[2]).toBe('+OK 4 0')
    expect(said[3]).toBe('-ERR UNKNOWN_TOPIC_OR_PARTITION p has no partition 5, only 5')
  })

  it('what cannot be read ends the connection, after all that came before was answered', async () => {
    const { lines, w } = await started()
    expect(await lines.says('PUB t 1\naGET / HTTP/1.1\r\nPUB t 1\nb')).toEqual([
      '+OK 0 0',
      '-ERR BAD_REQUEST "GET" is no request; the connection ends here',
    ])
    expect(lines.isClosed).toBe(true)
    expect(await new LineClient(w).says('PING\nQUIT\nPING\n')).toEqual(['+PONG', '+BYE'])
  })

  it('too large a record fails alone', async () => {
    const { lines } = await started({ texts: { 'message.max.bytes': '2000' } })
    const said = await lines.says(`PUB t 5000\n${'x'.repeat(5000)}PUB t 1\na`)
    expect(said[0]).toMatch(/^-ERR MESSAGE_TOO_LARGE a record of 5000 bytes, t takes \d+$/)
    expect(said[1]).toBe('+OK 0 0')
  })

  it('a client that goes away harms nobody, not even in the middle of a record', async () => {
    const { w, client, lines, daemon } = await started()
    lines.send('PUB t 1\naPUB t 100\nabc')
    await w.run(50)
    lines.link.close()
    await w.run(50)
    expect(await new LineClient(w).says('PUB t 1\nb')).toEqual(['+OK 0 1'])
    const { records } = await client.fetch('t', { offset: 0 })
    expect(recordsOf(records).map(({ value }) => value)).toEqual(['a', 'b'])
    expect(daemon.requests).toBe(0)
  })

  it('a refusal by the log is told for each record of its batch', async () => {
    const { client, lines } = await started()
    await client.create('s', { config: { 'message.timestamp.before.max.ms': '1000' } })
    const said = await lines.says('PUB s 1 ts=5\naPUB s 1 ts=5\nbPING\n')
    expect(said.slice(0, 2).every((line) => line.startsWith('-ERR INVALID_TIMESTAMP '))).toBe(true)
    expect(said[2]).toBe('+PONG')
  })

  it('what was acknowledged is there after a power cut, over many runs', async () => {
    for (let seed = 0; seed < 12; seed += 1) {
      const w = new DaemonWorld(`line ${seed}`)
      const options = { listen: [ZMQ, LINES] }
      await w.start(options)
      await w.client().create('t')
      const lines = new LineClient(w)
      for (let at = 0; at < 40; at += 1) lines.send(`LINE t v${at}\n`)
      await w.run(seed)
      const acknowledged = lines.text.split('\n').slice(0, -1)
      const { client } = await w.crashAndRestart(options)
      const { records } = await client.fetch('t', { offset: 0 })
      const found = new Map(recordsOf(records).map(({ offset, value }) => [offset, value]))
      for (const [index, line] of acknowledged.entries()) {
        const [, offset] = /^\+OK 0 (\d+)$/.exec(line) ?? []
        expect(found.get(Number(offset))).toBe(`v${index}`)
      }
    }
  })

  it('a clean stop answers what it has taken', async () => {
    const { w, daemon, lines } = await started()
    lines.send('LINE t a\nLINE t b\n')
    await w.run(3)
    await w.stop(daemon)
    expect(lines.isClosed).toBe(true)
    const said = lines.text.split('\n').slice(0, -1)
    expect(said.length === 0 || said.length === 2).toBe(true)
  })
})
