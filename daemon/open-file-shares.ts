/**
 * Who may have how many of the process's descriptors. Under the usual limits (tens of thousands) nobody notices. A small one
 * is shared out, so that logs leave some to connections; and it is told at the start, because libzmq ends the process when
 * it can accept a connection at an ipc:// address and has no descriptor for it (ipc_listener.cpp, EMFILE).
 */
import type { Log } from '../src/ports/log.ts'

export interface OpenFileShares {
  /** Of segments and indexes; the least recently used are closed. */
  readonly filesMax: number
  /** Of one listener whose connections can be refused; Infinity where no limit is known. */
  readonly connectionsMax: number
}

const FILES_MAX = 512
const FILES_MIN = 8
/** The usual hard limit of old systems, and far more than one host's commands need. */
const WARN_BELOW = 4096

/** @param limit  descriptors of this process; undefined: none, or not known */
export function shareOpenFiles(limit: number | undefined): OpenFileShares {
  if (limit === undefined) return { filesMax: FILES_MAX, connectionsMax: Infinity }
  const filesMax = Math.min(FILES_MAX, Math.max(FILES_MIN, Math.floor(limit / 4)))
  return { filesMax, connectionsMax: Math.max(1, Math.floor(limit / 2)) }
}

export function warnOfFewOpenFiles(log: Log, limit: number | undefined): void {
  if (limit === undefined || limit >= WARN_BELOW) return
  log.warn(`at most ${limit} files can be open: with more connections than that the daemon ends`, {
    hint: `raise the hard limit (ulimit -Hn, LimitNOFILE=) to ${WARN_BELOW} or more`,
  })
}
