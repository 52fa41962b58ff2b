/**
 * Our line protocol as a program uses it: `line-client.ts VERB SOCKET TOPIC`
 *   read       all records of a topic with one partition, nothing printed
 *   relay-in   lines of stdin as PUB, at once
 *   relay-out  new records of a SUB, as lines to stdout, at once
 */
import { connect } from 'node:net'
import { writeAll } from './write-all.ts'

const [verb, path = '', topic = ''] = process.argv.slice(2)
const socket = connect(path)
socket.on('error', (error) => {
  throw error
})

if (verb === 'read') readAll()
else if (verb === 'relay-in') await relayIn()
else if (verb === 'relay-out') relayOut()
else throw new Error(`no such verb: ${verb}`)

/** Ends with the `+END` behind the last record; a connection that ends before it is an error. */
function readAll(): void {
  const end = `\n+END ${topic}\n`
  let tail = ''
  socket.on('data', (chunk: Buffer) => {
    tail = (tail + chunk.toString('latin1', Math.max(0, chunk.length - end.length))).slice(
      -end.length,
    )
    if (tail === end) process.exit(0)
  })
  socket.on('close', () => {
    throw new Error('the connection ended before the records did')
  })
  socket.write(`SUB ${topic} from=start until=end\n`)
}

async function relayIn(): Promise<void> {
  socket.on('data', (answers: Buffer) => {
    if (answers.includes('-ERR')) throw new Error(answers.toString())
  })
  let rest = ''
  for await (const chunk of process.stdin) {
    const lines = (rest + (chunk as Buffer).toString('latin1')).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) socket.write(`PUB ${topic} ${line.length}\n${line}`, 'latin1')
  }
  socket.end()
}

function relayOut(): void {
  let held = ''
  socket.on('data', (chunk: Buffer) => {
    held += chunk.toString('latin1')
    let lines = ''
    for (;;) {
      const headEnd = held.indexOf('\n')
      if (headEnd < 0) break
      const [word, , , , , , length = ''] = held.slice(0, headEnd).split(' ')
      if (word === '-ERR' || word === '-END') throw new Error(held)
      const end = word === 'MSG' ? headEnd + 1 + Number(length) + 1 : headEnd + 1
      if (held.length < end) break
      if (word === 'MSG') lines += held.slice(headEnd + 1, end)
      held = held.slice(end)
    }
    if (lines !== '') writeAll(Buffer.from(lines, 'latin1'))
  })
  socket.write(`SUB ${topic}\n`)
}
