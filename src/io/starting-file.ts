/**
 * Who is starting with a data directory: until a daemon answers (it may wait for etcd, or recover its logs) nobody could find or end
 * it otherwise. The file is no lock, and one of a process that was killed is told by its mark.
 */
import { mkdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { STARTING_NAME } from '../ports/daemon-launcher.ts'
import { processMark } from './process-mark.ts'

/** @returns takes it away, and a directory that is still empty then and was not there before; idempotent. Where it cannot be written the start itself will say why. */
export function putStartingFile(directory: string): () => void {
  const path = join(directory, STARTING_NAME)
  const mark = `${processMark(process.pid)}\n`
  let isNew = false
  try {
    isNew = mkdirSync(directory, { recursive: true, mode: 0o700 }) !== undefined
    writeFileSync(path, mark)
  } catch {
    return () => undefined
  }
  return () => {
    try {
      if (readFileSync(path, 'latin1') === mark) rmSync(path)
      if (isNew) rmdirSync(directory)
    } catch {
      // It is gone, or another's by now; the directory has data.
    }
  }
}
