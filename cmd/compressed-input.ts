/** FILE arguments that are packed: `.gz` and `.zst` are unpacked on the way, with bounded memory. */

import { createGunzip, createZstdDecompress } from 'node:zlib'
import { StreamError } from '../src/base/errors.ts'
import type { ByteInput, InputEvents, InputKind } from '../src/ports/stdio.ts'

export function isCompressedName(path: string): boolean {
  return path.endsWith('.gz') || path.endsWith('.zst')
}

/** The bytes of `input` unpacked, after the ending of its name. */
export class CompressedInput implements ByteInput {
  readonly kind: InputKind
  readonly path: string
  /** What comes out cannot be known beforehand. */
  readonly sizeBytes = undefined
  readonly #input: ByteInput
  readonly #unpack: ReturnType<typeof createGunzip> | ReturnType<typeof createZstdDecompress>
  #isClosed = false

  constructor(input: ByteInput) {
    this.#input = input
    this.kind = input.kind
    this.path = input.path
    this.#unpack = input.path.endsWith('.gz') ? createGunzip() : createZstdDecompress()
  }

  start(events: InputEvents): void {
    const unpack = this.#unpack
    const end = (error: Error | undefined): void => {
      if (this.#isClosed) return
      this.close()
      events.onEnd(error)
    }
    unpack.on('data', (chunk: Buffer) => {
      if (!this.#isClosed) events.onBytes(chunk, 0, chunk.length)
    })
    unpack.on('end', () => end(undefined))
    unpack.on('error', (error) => {
      end(
        new StreamError('DATA_DAMAGED', `${this.path}: cannot be unpacked: ${error.message}`, {
          target: this.path,
          cause: error,
        }),
      )
    })
    this.#input.start({
      onBytes: (chunk, from, to) => {
        // The chunk's memory is used again after this call.
        const hasRoom = unpack.write(Buffer.from(chunk.subarray(from, to)))
        if (hasRoom) return
        this.#input.pause()
        unpack.once('drain', () => this.#input.resume())
      },
      onEnd: (error) => {
        if (error === undefined) unpack.end()
        else end(error)
      },
    })
  }

  pause(): void {
    this.#unpack.pause()
  }

  resume(): void {
    this.#unpack.resume()
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#input.close()
    this.#unpack.destroy()
  }
}
