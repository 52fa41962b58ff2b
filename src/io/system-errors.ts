/** Translates the errors of system calls into the closed table of src/base/errors.ts. */
import { getSystemErrorMessage } from 'node:util'
import { type ErrorCode, StreamError } from '../base/errors.ts'

const diskCodes: Readonly<Record<string, ErrorCode>> = {
  ENOSPC: 'DISK_FULL',
  EDQUOT: 'DISK_FULL',
  EROFS: 'DISK_READ_ONLY',
  EACCES: 'PERMISSION_DENIED',
  EPERM: 'PERMISSION_DENIED',
  ENOENT: 'FILE_NOT_FOUND',
  ENOTDIR: 'FILE_NOT_FOUND',
}

const diskHints: Partial<Record<ErrorCode, string>> = {
  DISK_FULL: 'free some space on this file system',
  DISK_READ_ONLY: 'the file system is mounted read-only',
  PERMISSION_DENIED: 'check the owner and the mode of the file and its directory',
}

const systemHints: Readonly<Record<string, string>> = {
  EMFILE: 'raise the limit of open files',
  ENFILE: 'raise the limit of open files',
  EBADMSG: 'the file system is damaged: unmount it and check it (fsck), or replace the disk',
  EUCLEAN: 'the file system is damaged: unmount it and check it (fsck), or replace the disk',
}

/** What file systems say of their own damage; libuv has no names for these. */
const damageCodes: Readonly<Record<number, string>> = { 74: 'EBADMSG', 117: 'EUCLEAN' }

/** The `code` of a system error (`ENOENT`), or undefined for anything else. */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined
  const { code, errno } = error as NodeJS.ErrnoException
  if (typeof code !== 'string') return undefined
  // The numbers are Linux's; elsewhere they may be those of errors that have a name.
  return code.startsWith('Unknown system error') ? (damageCodes[-(errno ?? 0)] ?? code) : code
}

/** In words, with the name behind: `no such file or directory (ENOENT)`. */
export function systemText(error: unknown): string {
  const code = systemCode(error)
  if (code === undefined) return 'unknown error'
  const { errno } = error as NodeJS.ErrnoException
  const words = errno === undefined ? '' : getSystemErrorMessage(errno)
  return words === '' || words.startsWith('Unknown') ? code : `${words} (${code})`
}

/** @param doing  what failed, for the message: `write`, `open` */
export function diskError(error: unknown, doing: string, path: string): StreamError {
  if (error instanceof StreamError) return error
  const system = systemCode(error) ?? ''
  const code = diskCodes[system] ?? 'DISK_FAILED'
  const hint = systemHints[system] ?? diskHints[code]
  return new StreamError(code, `cannot ${doing} ${path}: ${systemText(error)}`, {
    target: path,
    cause: error,
    ...(hint === undefined ? {} : { hint }),
  })
}

/**
 * The result of a call that a signal may cut short before it has done anything: libzmq tells EINTR, and the package
 * zeromq asks again only when it sends, receives and looks for events.
 */
export function uninterrupted<Result>(call: () => Result): Result {
  for (;;) {
    try {
      return call()
    } catch (error) {
      if (systemCode(error) !== 'EINTR') throw error
    }
  }
}
