/**
 * Measures the transports alone: `node test/bench/net.ts [ipc|tcp|kafka]`. One server process, one client process.
 * Prints the round trip of a 100 B request and response, and the flow of 512 KiB messages answered by 100 B each.
 */
import { fork } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { RealNet } from '../../src/io/real-net.ts'
import type { Link } from '../../src/ports/net.ts'

const ROUND_TRIPS = 20_000
const LARGE_BYTES = 512 * 1024
const LARGE_MESSAGES = 4000
const SMALL_MESSAGES = 200_000
const ANSWER = new Uint8Array(100)

const scheme = process.argv[2] ?? 'ipc'
const directory = process.argv[3]

if (directory === undefined) await measure()
else await serve(directory)

async function serve(place: string): Promise<void> {
  const address = scheme === 'ipc' ? `ipc://${join(place, 'socket')}` : `${scheme}://127.0.0.1:0`
  const limits = { messageBytesMax: 64 * 1024 * 1024, linksMax: 100 }
  const listener = await new RealNet().listen(address, limits, (link) => ({
    onMessage: () => link.send([ANSWER]),
    onClose: () => process.exit(0),
  }))
  process.send?.(listener.address)
}

async function measure(): Promise<void> {
  const place = mkdtempSync(join(tmpdir(), 'stream-bench-'))
  const server = fork(import.meta.filename, [scheme, place])
  const address = await new Promise<string>((resolve) => server.once('message', resolve as never))
  let onAnswer: () => void = () => undefined
  const link = await connect(address, () => onAnswer())
  const exchange = (message: Uint8Array, count: number, window: number): Promise<void> =>
    new Promise((resolve) => {
      let sent = 0
      let answered = 0
      const sendOne = (): void => {
        sent += 1
        link.send([message])
      }
      onAnswer = () => {
        answered += 1
        if (answered === count) resolve()
        else if (sent < count) sendOne()
      }
      for (let index = 0; index < window; index++) sendOne()
    })
  await exchange(new Uint8Array(100), 2000, 1)
  const times: number[] = []
  for (let index = 0; index < ROUND_TRIPS; index++) {
    const began = performance.now()
    await exchange(new Uint8Array(100), 1, 1)
    times.push(performance.now() - began)
  }
  times.sort((left, right) => left - right)
  const at = (share: number): string =>
    ((times[Math.floor(times.length * share)] ?? 0) * 1000).toFixed(0)
  console.log(`${scheme}: 100 B round trip p50 ${at(0.5)} us, p99 ${at(0.99)} us`)
  for (const window of [1, 4, 16]) {
    const began = performance.now()
    await exchange(new Uint8Array(LARGE_BYTES), LARGE_MESSAGES, window)
    const seconds = (performance.now() - began) / 1000
    const rate = (LARGE_BYTES * LARGE_MESSAGES) / seconds / 1e6
    console.log(`${scheme}: 512 KiB, ${window} in flight: ${rate.toFixed(0)} MB/s`)
  }
  const began = performance.now()
  await exchange(new Uint8Array(100), SMALL_MESSAGES, 256)
  const rate = SMALL_MESSAGES / ((performance.now() - began) / 1000)
  console.log(`${scheme}: 100 B, 256 in flight: ${rate.toFixed(0)} requests/s`)
  link.close()
  rmSync(place, { recursive: true, force: true })
}

function connect(address: string, onMessage: () => void): Promise<Link> {
  return new Promise((resolve, reject) => {
    const link = new RealNet().connect(address, {
      onOpen: () => resolve(link),
      onMessage,
      onClose: (reason) => reject(reason ?? new Error('closed')),
    })
  })
}
