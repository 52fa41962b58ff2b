/** The relay of relay.ts, in a thread of its own: it passes on while a test waits for a command. */
import { connect, createServer, type Socket } from 'node:net'
import { parentPort, workerData } from 'node:worker_threads'

const { port, toPort } = workerData as { readonly port: number; readonly toPort: number }
const pairs = new Set<readonly Socket[]>()
let isCut = false

function hold(pair: readonly Socket[]): void {
  for (const socket of pair) {
    socket.unpipe()
    socket.pause()
  }
}

function drop(): void {
  for (const pair of pairs) for (const socket of pair) socket.destroy()
  pairs.clear()
}

const server = createServer((near) => {
  const far = connect(toPort, '127.0.0.1')
  const pair = [near, far]
  pairs.add(pair)
  const end = (): void => {
    pairs.delete(pair)
    near.destroy()
    far.destroy()
  }
  for (const socket of pair) {
    socket.on('error', end)
    socket.on('close', end)
  }
  near.pipe(far)
  far.pipe(near)
  if (isCut) hold(pair)
})
server.listen(port, '127.0.0.1', () => parentPort?.postMessage('ready'))

parentPort?.on('message', (order: 'cut' | 'heal' | 'reset') => {
  if (order === 'cut') for (const pair of pairs) hold(pair)
  else drop()
  isCut = order === 'cut' || (isCut && order !== 'heal')
})
