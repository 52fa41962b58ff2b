/**
 * The offline part of the program as a module of its own, with the real disk: `stream dump` and `stream fsck` load it by its
 * path when they run (cmd/main.ts), so that commands neither import the daemon nor carry its log.
 */
import { resolve } from 'node:path'
import { RealDisk } from '../../src/io/real-disk.ts'
import type { Offline } from '../../src/ports/offline.ts'
import { offlineLogs } from './offline-logs.ts'

export function openOffline(): Offline {
  return offlineLogs(new RealDisk(), (path) => resolve(path))
}
