/**
 * The clients of Redis that a race starts where redis-cli has none: `redis-client.ts VERB PORT STREAM`
 *   read       the whole stream by XRANGE in blocks of 5000, the values as lines to stdout
 *   relay-in   lines of stdin as XADD, at once
 *   relay-out  new entries by a blocking XREAD, as lines to stdout, at once
 */
import { connect } from 'node:net'
import { writeAll } from './write-all.ts'

const [verb, port = '', stream = ''] = process.argv.slice(2)
const socket = connect(Number(port), '127.0.0.1')
socket.setNoDelay(true)
socket.on('error', (error) => {
  throw error
})
const command = (...words: readonly string[]) =>
  socket.write(
    `*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join('')}`,
    'latin1',
  )

if (verb === 'read') readAll()
else if (verb === 'relay-in') await relayIn()
else if (verb === 'relay-out') relayOut()
else throw new Error(`no such verb: ${verb}`)

/** Each entry is `*2 $n id *2 $1 v $n value`; only whole entries are taken, the rest waits for more bytes. */
function readAll(): void {
  const blockEntries = 5000
  let held: Buffer = Buffer.alloc(0)
  let left = -1
  let last = '-'
  const next = () =>
    command('XRANGE', stream, last === '-' ? '-' : `(${last}`, '+', 'COUNT', String(blockEntries))
  socket.on('data', (chunk: Buffer) => {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk])
    let at = 0
    if (left < 0) {
      const end = held.indexOf('\r\n')
      if (end < 0) return
      left = Number(held.toString('latin1', 1, end))
      at = end + 2
      if (left === 0) process.exit(0)
    }
    const out: Buffer[] = []
    while (left > 0) {
      const entry = parseEntry(held, at)
      if (entry === undefined) break
      last = entry.id
      out.push(held.subarray(entry.from, entry.to + 1))
      at = entry.end
      left--
    }
    // The value is followed by \r\n; its \r becomes the line's end.
    for (const value of out) value[value.length - 1] = 10
    if (out.length > 0) writeAll(Buffer.concat(out))
    held = held.subarray(at)
    if (left === 0) {
      left = -1
      next()
    }
  })
  next()
}

function parseEntry(
  bytes: Buffer,
  start: number,
): { id: string; from: number; to: number; end: number } | undefined {
  const id = bulk(bytes, start + 4)
  if (id === undefined) return undefined
  const field = bulk(bytes, id.to + 2 + 4)
  if (field === undefined) return undefined
  const value = bulk(bytes, field.to + 2)
  if (value === undefined || value.to + 2 > bytes.length) return undefined
  return {
    id: bytes.toString('latin1', id.from, id.to),
    from: value.from,
    to: value.to,
    end: value.to + 2,
  }
}

/** `$<length>\r\n<bytes>\r\n` */
function bulk(bytes: Buffer, start: number): { from: number; to: number } | undefined {
  let length = 0
  for (let at = start + 1; at < bytes.length; at++) {
    const byte = bytes[at] ?? 0
    if (byte === 13) {
      const to = at + 2 + length
      return to <= bytes.length ? { from: at + 2, to } : undefined
    }
    length = length * 10 + byte - 48
  }
  return undefined
}

async function relayIn(): Promise<void> {
  socket.resume()
  let rest = ''
  for await (const chunk of process.stdin) {
    const lines = (rest + (chunk as Buffer).toString('latin1')).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) command('XADD', stream, '*', 'v', line)
  }
  socket.end()
}

function relayOut(): void {
  let held = ''
  const next = (id: string) => command('XREAD', 'BLOCK', '0', 'STREAMS', stream, id)
  socket.on('data', (chunk: Buffer) => {
    held += chunk.toString('latin1')
    // *1 *2 $n name *entries, then entries.
    const head = /^\*1\r\n\*2\r\n\$\d+\r\n[^\r]*\r\n\*(\d+)\r\n/.exec(held)
    if (head === null) return
    const bytes = Buffer.from(held, 'latin1')
    let at = head[0].length
    let id = ''
    let lines = ''
    for (let left = Number(head[1]); left > 0; left--) {
      const entry = parseEntry(bytes, at)
      if (entry === undefined) return
      id = entry.id
      lines += `${held.slice(entry.from, entry.to)}\n`
      at = entry.end
    }
    held = held.slice(at)
    // Asked again first: the wait for the next entry runs while these are printed.
    next(id)
    writeAll(Buffer.from(lines, 'latin1'))
  })
  next('$')
}
