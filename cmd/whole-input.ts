/** A small file, or standard input, as a whole. */

import { StreamError } from '../src/base/errors.ts'
import type { CommandDeps } from './deps.ts'

const BYTES_MAX = 64 * 1024 * 1024

/**
 * @param path  `-` is standard input
 * @throws StreamError FILE_NOT_FOUND, PERMISSION_DENIED; RECORD_TOO_LARGE above 64 MiB
 */
export function readWholeInput(deps: CommandDeps, path: string): Promise<string> {
  const input = deps.stdio.openInput(path)
  const chunks: Buffer[] = []
  let bytes = 0
  return new Promise((resolve, reject) => {
    input.start({
      onBytes: (chunk, start, end) => {
        bytes += end - start
        if (bytes > BYTES_MAX) {
          input.close()
          reject(new StreamError('RECORD_TOO_LARGE', `${path}: more than 64 MiB`, { target: path }))
          return
        }
        chunks.push(Buffer.from(chunk.subarray(start, end)))
      },
      onEnd: (error) => {
        if (error === undefined) resolve(Buffer.concat(chunks).toString('utf8'))
        else reject(error)
      },
    })
  })
}
