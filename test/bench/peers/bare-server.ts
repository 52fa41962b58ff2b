/**
 * The limit of latency: what a server in Node can do at best. It hands each record on as it comes, and keeps nothing of what makes a log:
 * no offsets, no partitions, no readers that come later, no order but of who waits for each record. `bare-server.ts SOCKET FILE`; PUB and SUB as line-client.ts has them, topic
 * `durable` (an fdatasync before a record is handed on, on another thread as in any server that others use meanwhile) or `relaxed` (written).
 */
import { fdatasync, openSync, writeSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'

const [path = '', filePath = ''] = process.argv.slice(2)
const file = openSync(filePath, 'a')
const subscribers = new Map<string, Socket[]>()

createServer((socket) => {
  let held = ''
  socket.on('error', () => socket.destroy())
  socket.on('data', (chunk: Buffer) => {
    held += chunk.toString('latin1')
    for (;;) {
      const headEnd = held.indexOf('\n')
      if (headEnd < 0) return
      const [verb, topic = '', length = ''] = held.slice(0, headEnd).split(' ')
      const isRecord = verb === 'PUB'
      const end = headEnd + 1 + (isRecord ? Number(length) : 0)
      if (held.length < end) return
      if (isRecord) publish(topic, held.slice(headEnd + 1, end))
      else subscribers.set(topic, [...(subscribers.get(topic) ?? []), socket])
      socket.write(`+OK ${topic}\n`)
      held = held.slice(end)
    }
  })
}).listen(path)

function publish(topic: string, record: string): void {
  const message = Buffer.from(`MSG ${topic} 0 0 0 - ${record.length}\n${record}\n`, 'latin1')
  writeSync(file, message)
  const handOn = (): void => {
    for (const each of subscribers.get(topic) ?? []) each.write(message)
  }
  if (topic !== 'durable') handOn()
  else
    fdatasync(file, (error) => {
      if (error !== null) throw error
      handOn()
    })
}
