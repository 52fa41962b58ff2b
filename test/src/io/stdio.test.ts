import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { openInput, openOutput, RealStdio } from '../../../src/io/stdio.ts'
import type { ByteInput } from '../../../src/ports/stdio.ts'
import { SimRandom } from '../../sim/sim-random.ts'

const root = mkdtempSync(join(tmpdir(), 'stream-stdio-'))
const program = join(import.meta.dirname, 'stdio-program.ts')
let count = 0

afterAll(() => rmSync(root, { recursive: true, force: true }))

function freshPath(): string {
  count += 1
  return join(root, `f${count}`)
}

/** A named pipe; holding it open both ways, nothing blocks and nothing ends. */
function makePipe(): { path: string; holder: number } {
  const path = freshPath()
  execFileSync('mkfifo', [path])
  return { path, holder: openSync(path, constants.O_RDWR | constants.O_NONBLOCK) }
}

function randomBytes(size: number): Uint8Array {
  return new SimRandom(size).bytes(size)
}

const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** Reads all, pausing now and then, and checking that what it may look at while paused stays. */
function readAll(input: ByteInput, random?: SimRandom): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const parts: Uint8Array[] = []
    let isInside = true
    input.start({
      onBytes: (chunk, start, end) => {
        expect(isInside).toBe(false)
        expect(end).toBeGreaterThan(start)
        const part = chunk.slice(start, end)
        parts.push(part)
        if (random?.chance(0.3) !== true) return
        input.pause()
        setImmediate(() => {
          expect(Buffer.compare(chunk.subarray(start, end), part)).toBe(0)
          input.resume()
        })
      },
      onEnd: (error) => {
        if (error === undefined) resolve(new Uint8Array(Buffer.concat(parts)))
        else reject(error)
      },
    })
    isInside = false
  })
}

describe('openInput', () => {
  it.each([0, 1, 65_536, 5_000_001])('a file of %i bytes, with pauses', async (size) => {
    const path = freshPath()
    const bytes = randomBytes(size)
    writeFileSync(path, bytes)
    const input = new RealStdio().openInput(path)
    expect(input.kind).toBe('file')
    expect(input.sizeBytes).toBe(size)
    expect(hash(await readAll(input, new SimRandom(1)))).toBe(hash(bytes))
  })

  it.each([0, 1, 65_536, 3_000_001])('a pipe of %i bytes, with pauses', (size) => {
    const path = freshPath()
    writeFileSync(path, randomBytes(size))
    const shell = `cat ${path} | "${process.execPath}" ${program} hash pauses`
    const result = spawnSync('sh', ['-c', shell], { encoding: 'utf8' })
    expect(result.stderr).toBe('')
    expect(result.stdout).toBe(hash(readFileSync(path)))
  })

  it('a pipe that begins slowly and then is always full, with pauses', () => {
    const path = freshPath()
    writeFileSync(path, randomBytes(3_000_001))
    const shell = `(head -c 10; sleep 0.3; cat) < ${path} | "${process.execPath}" ${program} hash pauses`
    const result = spawnSync('bash', ['-c', shell], { encoding: 'utf8' })
    expect(result.stderr).toBe('')
    expect(result.stdout).toBe(hash(readFileSync(path)))
  })

  it('a pipe whose writer is slower than the reader', async () => {
    const { path, holder } = makePipe()
    const input = openInput(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK), path)
    expect(input.kind).toBe('pipe')
    const heard: number[] = []
    let wake: () => void = () => undefined
    input.start({
      onBytes: (chunk, start, end) => {
        for (let at = start; at < end; at++) heard.push(chunk[at]!)
        wake()
      },
      onEnd: () => expect.unreachable(),
    })
    for (let value = 0; value < 20; value++) {
      const next = new Promise<void>((resolve) => {
        wake = resolve
      })
      writeSync(holder, new Uint8Array([value]))
      await next
    }
    expect(heard).toEqual(Array.from({ length: 20 }, (_, value) => value))
    input.close()
    closeSync(holder)
  })

  it('a closed standard input reads as empty', () => {
    const shell = `"${process.execPath}" ${program} hash <&-`
    const result = spawnSync('sh', ['-c', shell], { encoding: 'utf8' })
    expect(result.stdout).toBe(hash(new Uint8Array(0)))
  })

  it('leaves the flags of a shared pipe as they were', () => {
    // The shell's own `read` would fail if the program had made their common pipe non-blocking.
    const gate = freshPath()
    execFileSync('mkfifo', [gate])
    const reader = `"${process.execPath}" ${program} first; echo two > ${gate}; read -r line; printf %s "$line"`
    const shell = `{ echo one; cat ${gate}; } | { ${reader}; }`
    const result = spawnSync('sh', ['-c', shell], { encoding: 'utf8' })
    expect(result.stderr).toBe('')
    expect(result.stdout).toBe('one\ntwo')
  })

  it('what cannot be opened is refused', () => {
    const stdio = new RealStdio()
    expect(() => stdio.openInput(join(root, 'none'))).toThrow(
      expect.objectContaining({ code: 'FILE_NOT_FOUND' }),
    )
    expect(() => stdio.openInput(root)).toThrow(expect.objectContaining({ code: 'FILE_NOT_FOUND' }))
  })

  it('close ends the callbacks', async () => {
    const path = freshPath()
    writeFileSync(path, randomBytes(3_000_000))
    const input = new RealStdio().openInput(path)
    let chunks = 0
    await new Promise<void>((resolve) => {
      input.start({
        onBytes: () => {
          chunks += 1
          input.close()
          setImmediate(resolve)
        },
        onEnd: () => expect.unreachable(),
      })
    })
    expect(chunks).toBe(1)
  })
})

describe('openOutput', () => {
  it('writes a file at once, without a promise', () => {
    const path = freshPath()
    const output = new RealStdio().openOutput(path)
    const bytes = randomBytes(1_000_000)
    expect(output.write(bytes)).toBe('written')
    expect(output.bytesWritten).toBe(1_000_000)
    output.sync()
    output.close()
    expect(hash(readFileSync(path))).toBe(hash(bytes))
    const more = new RealStdio().openOutput(path, { append: true })
    expect(more.write(new Uint8Array([1]))).toBe('written')
    more.close()
    expect(readFileSync(path).length).toBe(1_000_001)
  })

  it('a file that must exist is not made', () => {
    const path = freshPath()
    const open = () => new RealStdio().openOutput(path, { append: true, mustExist: true })
    expect(open).toThrow(expect.objectContaining({ code: 'FILE_NOT_FOUND' }))
    expect(existsSync(path)).toBe(false)
    writeFileSync(path, 'x')
    const output = open()
    expect(output.write(Buffer.from('y'))).toBe('written')
    output.close()
    expect(readFileSync(path, 'utf8')).toBe('xy')
  })

  it('a full pipe makes a promise, keeps the loop alive, and loses nothing however slow the reader', async () => {
    const { path, holder } = makePipe()
    const output = openOutput(openSync(path, constants.O_WRONLY | constants.O_NONBLOCK), path)
    expect(output.kind).toBe('pipe')
    const bytes = randomBytes(1_000_000)
    const outcome = output.write(bytes)
    expect(outcome).toBeInstanceOf(Promise)
    const read: Uint8Array[] = []
    let total = 0
    while (total < bytes.length) {
      await new Promise((resolve) => setImmediate(resolve))
      const part = new Uint8Array(10_000)
      try {
        const got = readSync(holder, part)
        read.push(part.subarray(0, got))
        total += got
      } catch (error) {
        expect((error as NodeJS.ErrnoException).code).toBe('EAGAIN')
      }
    }
    expect(await outcome).toBe('written')
    expect(hash(Buffer.concat(read))).toBe(hash(bytes))
    expect(output.bytesWritten).toBe(bytes.length)
    expect(output.write(new Uint8Array(10))).toBe('written')
    output.close()
    closeSync(holder)
  })

  it('a reader that has gone away is a value, now and ever after', () => {
    const { path, holder } = makePipe()
    const output = openOutput(openSync(path, constants.O_WRONLY | constants.O_NONBLOCK), path)
    expect(output.write(new Uint8Array(10))).toBe('written')
    closeSync(holder)
    expect(output.write(new Uint8Array(10))).toBe('broken')
    expect(output.isBroken).toBe(true)
    expect(output.write(new Uint8Array(10))).toBe('broken')
    output.close()
  })

  it('a reader that goes away while a write waits is a value too', async () => {
    const { path, holder } = makePipe()
    const output = openOutput(openSync(path, constants.O_WRONLY | constants.O_NONBLOCK), path)
    const outcome = output.write(new Uint8Array(1_000_000))
    closeSync(holder)
    expect(await outcome).toBe('broken')
    output.close()
  })

  it('a full device is OUTPUT_FAILED', () => {
    const output = new RealStdio().openOutput('/dev/full')
    expect(() => output.write(new Uint8Array(10))).toThrow(
      expect.objectContaining({ code: 'OUTPUT_FAILED' }),
    )
  })

  it.each(['pipe', 'socket', 'file'])(
    'standard output to a %s: all arrives before the end',
    (kind) => {
      const size = 5_000_000
      const command = `"${process.execPath}" ${program} bytes ${size}`
      const path = freshPath()
      const shell = { pipe: `${command} | cat`, socket: command, file: `${command} > ${path}` }[
        kind
      ]!
      const result = spawnSync('sh', ['-c', shell], { maxBuffer: 2 * size })
      expect(result.stderr.toString()).toBe('')
      const bytes = kind === 'file' ? readFileSync(path) : result.stdout
      expect(hash(bytes)).toBe(hash(randomBytes(size)))
    },
  )

  it('standard output whose reader leaves: broken, not an error', () => {
    const shell = `"${process.execPath}" ${program} bytes 5000000 | head -c 100 >/dev/null`
    const result = spawnSync('sh', ['-c', shell], { encoding: 'utf8' })
    expect(result.stderr).toBe('broken\n')
  })
})
