/**
 * The spool: an input that ends when it likes is kept on disk until it has ended, so that the transaction that carries
 * it is short. The file has no name once it is open: it is gone with the process, however that ends.
 */

import type { Host } from '../src/ports/host.ts'
import type { ByteInput, Stdio } from '../src/ports/stdio.ts'
import { InputPump } from './input-pump.ts'
import { QueuedOutput } from './queued-output.ts'

/** STREAM_SPOOL, else `$XDG_STATE_HOME/stream/spool`. */
export function spoolDirectory(host: Host): string {
  const { environment } = host
  const named = environment['STREAM_SPOOL']
  if (named !== undefined && named !== '') return named
  const home = environment['XDG_STATE_HOME']
  const base = home === undefined || home === '' ? `${host.homeDirectory}/.local/state` : home
  return `${base}/stream/spool`
}

export interface Spooling {
  /** The input again, from its start; undefined: it was stopped. @throws StreamError OUTPUT_FAILED, and of the input */
  readonly done: Promise<ByteInput | undefined>
  stop(): void
  fail(error: unknown): void
}

export function spool(
  { host, stdio }: { readonly host: Host; readonly stdio: Stdio },
  input: ByteInput,
  name: string,
): Spooling {
  const directory = spoolDirectory(host)
  host.makeDirectory(directory)
  const path = `${directory}/${name}`
  const output = stdio.openOutput(path)
  let copy: ByteInput
  try {
    copy = stdio.openInput(path)
  } finally {
    host.removeFile(path)
  }
  const queue = new QueuedOutput(output)
  const pump = new InputPump({
    feed: (chunk, start, end) => {
      queue.write(chunk.subarray(start, end))
      return end
    },
    get isBlocked() {
      return queue.isFull
    },
    ready: () => queue.drained(),
  })
  const run = async (): Promise<ByteInput | undefined> => {
    try {
      const outcome = await pump.run(input)
      await queue.drained()
      if (outcome === 'end') return copy
    } catch (error) {
      copy.close()
      throw error
    } finally {
      output.close()
    }
    copy.close()
    return undefined
  }
  return { done: run(), stop: () => pump.stop(), fail: (error) => pump.fail(error) }
}
