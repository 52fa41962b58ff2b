/** A payload as the bytes that a client would write into its socket, made before the clock runs. */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'
import type { Payload } from './contender.ts'

export function rewriteLines(
  payload: Payload,
  target: string,
  rewrite: (line: string) => string,
): void {
  const file = openSync(target, 'w')
  let block: string[] = []
  for (const line of readFileSync(payload.path, 'latin1').split('\n')) {
    if (line === '') continue
    block.push(rewrite(line))
    if (block.length < 20_000) continue
    writeSync(file, block.join(''))
    block = []
  }
  writeSync(file, block.join(''))
  closeSync(file)
}
