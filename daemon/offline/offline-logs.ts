/** The port Offline over a disk. A check is given a disk that refuses writes; a repair holds the directory's lock. */
import { isStreamError, StreamError } from '../../src/base/errors.ts'
import type { Disk } from '../../src/ports/disk.ts'
import type { Offline } from '../../src/ports/offline.ts'
import { assertDataDirectory, checkDirectory } from './check-directory.ts'
import { dump } from './dump.ts'
import { readOnlyDisk } from './read-only-disk.ts'

/** @param resolve  makes a path absolute, without `.`, `..` and a slash at the end */
export function offlineLogs(disk: Disk, resolve: (path: string) => string): Offline {
  const reader = readOnlyDisk(disk)
  return {
    dump: (request, sink) => dump(reader, { ...request, path: resolve(request.path) }, sink),
    check: async (path, onFinding) => {
      const directory = resolve(path)
      assertDataDirectory(reader, directory)
      const isInUse = isLocked(disk, directory)
      const totals = await checkDirectory(reader, directory, { repair: false }, onFinding)
      return { ...totals, isInUse }
    },
    repair: async (path, onFinding) => {
      const directory = resolve(path)
      assertDataDirectory(reader, directory)
      const lock = lockAlone(disk, directory)
      try {
        const totals = await checkDirectory(disk, directory, { repair: true }, onFinding)
        return { ...totals, isInUse: false }
      } finally {
        lock.release()
      }
    },
  }
}

function lockPath(directory: string): string {
  return `${directory}/.lock`
}

/** Asks without leaving a trace: where there is no lock file nobody can hold it. */
function isLocked(disk: Disk, directory: string): boolean {
  if (disk.stat(lockPath(directory)) === undefined) return false
  try {
    disk.lock(lockPath(directory)).release()
    return false
  } catch (error) {
    if (isStreamError(error, 'DIRECTORY_LOCKED')) return true
    // Whoever may not lock it may still look.
    if (isStreamError(error)) return false
    throw error
  }
}

function lockAlone(disk: Disk, directory: string): ReturnType<Disk['lock']> {
  try {
    return disk.lock(lockPath(directory))
  } catch (error) {
    if (!isStreamError(error, 'DIRECTORY_LOCKED')) throw error
    throw new StreamError('DIRECTORY_LOCKED', `${directory}: a daemon has the directory`, {
      target: directory,
      hint: 'stop it first: stream daemon stop',
      cause: error,
    })
  }
}
