/**
 * Exclusive locks on files, which end with the process however that happens.
 *
 * Node has no flock. The lock belongs to the open file, not to the process that asked for it: `flock` locks the
 * descriptor it inherits and ends; the lock stays with ours, and the kernel drops it when we end.
 */
import { closeSync, constants, openSync } from 'node:fs'
import { StreamError } from '../base/errors.ts'
import { childProcessModule } from './lazy-modules.ts'
import { diskError, systemCode } from './system-errors.ts'

const FILE_MODE = 0o644
/** macOS's flag of open(2) for a lock taken with it; Node has no name for it. */
const O_EXLOCK = 0x20
const LOCK_TAKEN_EXIT = 1

/**
 * Creates the file where it is not there.
 * @param locked  what to throw when another process, or another call, has the lock
 * @returns release, which is idempotent
 * @throws StreamError RUNTIME_MISSING, DISK_FAILED, PERMISSION_DENIED …
 */
export function lockFile(path: string, locked: (path: string) => StreamError): { release(): void } {
  const isMac = process.platform === 'darwin'
  const flags = constants.O_RDWR | constants.O_CREAT | (isMac ? O_EXLOCK | constants.O_NONBLOCK : 0)
  let descriptor: number
  try {
    descriptor = openSync(path, flags, FILE_MODE)
  } catch (error) {
    if (isMac && systemCode(error) === 'EAGAIN') throw locked(path)
    throw diskError(error, 'open', path)
  }
  if (!isMac) {
    try {
      lockDescriptor(descriptor, path, locked)
    } catch (error) {
      closeSync(descriptor)
      throw error
    }
  }
  let isHeld = true
  return {
    release: () => {
      if (!isHeld) return
      isHeld = false
      closeSync(descriptor)
    },
  }
}

function lockDescriptor(
  descriptor: number,
  path: string,
  locked: (path: string) => StreamError,
): void {
  const result = childProcessModule().spawnSync('flock', ['-n', '-x', '3'], {
    stdio: ['ignore', 'ignore', 'pipe', descriptor],
  })
  if (result.error !== undefined) {
    throw new StreamError('RUNTIME_MISSING', 'cannot run flock', {
      hint: 'install util-linux, which has the flock command',
      cause: result.error,
    })
  }
  if (result.status === 0) return
  if (result.status === LOCK_TAKEN_EXIT) throw locked(path)
  const detail = result.stderr.toString().trim()
  throw new StreamError('DISK_FAILED', `cannot lock ${path}: ${detail}`, { target: path })
}
