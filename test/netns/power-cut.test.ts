/** What the power cuts of the netns runs stand on: a process that stands still has told nobody of bytes that are lost. */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, readdirSync, readSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { standStill } from './freeze.ts'
import { LoopDisk, noLoopDisks, removeScratch, scratchDirectory } from './loop-disk.ts'

const FILES = 4
const RECORD_BYTES = 320
const why = noLoopDisks()
if (why !== undefined) process.stderr.write(`tests of power cuts are skipped: ${why}\n`)

/** Appends to files for ever, each record synced, and says `<file> <records>` of each that is. */
const WRITER = `
const fs = require('node:fs')
async function write(file) {
  const handle = await fs.promises.open(process.argv[1] + '/f' + file, 'a')
  const directory = await fs.promises.open(process.argv[1], 'r')
  await directory.sync()
  for (let count = 1; ; count++) {
    const record = Buffer.alloc(${RECORD_BYTES})
    record.writeUInt32LE(count, 0)
    await handle.write(record)
    await handle.datasync()
    fs.writeSync(1, file + ' ' + count + '\\n')
  }
}
for (let file = 0; file < ${FILES}; file++) write(file).catch(() => undefined)
`

function start(directory: string): { readonly child: ChildProcess; readonly said: () => string } {
  const child = spawn(process.execPath, ['-e', WRITER, directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  child.stdout?.on('data', (chunk: Buffer) => {
    text += chunk.toString()
  })
  return { child, said: () => text }
}

/** How many records of a file are there, one behind the other. */
function stored(path: string): number {
  const file = openSync(path, 'r')
  const record = Buffer.alloc(RECORD_BYTES)
  let count = 0
  while (readSync(file, record, 0, RECORD_BYTES, count * RECORD_BYTES) === RECORD_BYTES) {
    if (record.readUInt32LE(0) !== count + 1) break
    count += 1
  }
  closeSync(file)
  return count
}

describe.skipIf(why !== undefined)('a power cut', () => {
  it('of a process that stands still takes nothing that it had said to be on the disk', async () => {
    const directory = scratchDirectory()
    const disk = new LoopDisk(directory, 'cut', { sizeMebibytes: 64 })
    try {
      for (let round = 0; round < 12; round += 1) {
        for (const name of readdirSync(disk.path)) {
          if (name.startsWith('f')) rmSync(join(disk.path, name))
        }
        const { child, said } = start(disk.path)
        const writers = () =>
          new Set(
            said()
              .split('\n')
              .slice(0, -1)
              .map((line) => line.split(' ')[0]),
          )
        while (said().split('\n').length < 50 + 20 * round || writers().size < FILES) {
          await new Promise((resolve) => setTimeout(resolve, 5))
        }
        await standStill([child])
        disk.cutPower()
        const ended = new Promise((resolve) => child.once('close', resolve))
        child.kill('SIGKILL')
        await ended
        disk.unmount()
        disk.mount()
        const last = new Map<string, number>()
        for (const line of said().split('\n').slice(0, -1)) {
          const [file = '', count] = line.split(' ')
          last.set(file, Number(count))
        }
        expect(last.size).toBe(FILES)
        for (const [file, count] of last) {
          const path = join(disk.path, `f${file}`)
          expect(statSync(path).size).toBeGreaterThanOrEqual(count * RECORD_BYTES)
          expect(stored(path)).toBeGreaterThanOrEqual(count)
        }
      }
    } finally {
      disk.remove()
      removeScratch(directory)
    }
  }, 60_000)
})
