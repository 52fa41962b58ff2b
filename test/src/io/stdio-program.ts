/** What stdio.test.ts runs as a process of its own. */
import { createHash } from 'node:crypto'
import { RealHost } from '../../../src/io/real-host.ts'
import { RealStdio } from '../../../src/io/stdio.ts'
import { SimRandom } from '../../sim/sim-random.ts'

const stdio = new RealStdio()
const host = new RealHost()
const [mode, argument] = host.arguments

if (mode === 'hash') hashInput(argument === 'pauses')
else if (mode === 'first') await copyFirstChunk()
else await writeBytes(Number(argument))

function hashInput(hasPauses: boolean): void {
  const hash = createHash('sha256')
  const random = new SimRandom('pauses')
  const input = stdio.openInput('-')
  input.start({
    onBytes: (chunk, start, end) => {
      hash.update(chunk.subarray(start, end))
      if (!hasPauses || !random.chance(0.5)) return
      const held = chunk.slice(start, end)
      input.pause()
      setTimeout(() => {
        if (Buffer.compare(chunk.subarray(start, end), held) !== 0) stdio.printError('changed\n')
        input.resume()
      }, 1)
    },
    onEnd: async (error) => {
      if (error !== undefined) stdio.printError(`${error.message}\n`)
      await stdio.output.write(new TextEncoder().encode(hash.digest('hex')))
      host.exit(0)
    },
  })
}

async function copyFirstChunk(): Promise<void> {
  const input = stdio.openInput('-')
  await new Promise<void>((resolve) => {
    input.start({
      onBytes: (chunk, start, end) => {
        input.close()
        void Promise.resolve(stdio.output.write(chunk.slice(start, end))).then(() => resolve())
      },
      onEnd: () => undefined,
    })
  })
  host.exit(0)
}

async function writeBytes(size: number): Promise<void> {
  const bytes = new SimRandom(size).bytes(size)
  for (let at = 0; at < size; at += 100_000) {
    const outcome = await stdio.output.write(bytes.subarray(at, at + 100_000))
    if (outcome !== 'broken') continue
    stdio.printError('broken\n')
    host.exit(0)
  }
  host.exit(0)
}
