/**
 * Who is starting with a data directory: until a daemon answers (it may wait for etcd, or recover its logs) nobody could find or end
 * it otherwise. The file is no lock, and one of a process that was killed is told by its mark.
 */
import { readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { STARTING_NAME } from '../ports/daemon-launcher.ts'
import { processMark } from './process-mark.ts'

/**
 * @param directory  is there
 * @param options.isNew  it was not before this start
 * @returns takes it away, and a new directory that is still empty then; idempotent
 * @throws what Node says of a file that cannot be written
 */
export function putStartingFile(
  directory: string,
  { isNew }: { readonly isNew: boolean },
): () => void {
  const path = join(directory, STARTING_NAME)
  const mark = `${processMark(process.pid)}\n`
  try {
    writeFileSync(path, mark)
  } catch (error) {
    // On a full disk an empty one is left.
    rmSync(path, { force: true })
    throw error
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
