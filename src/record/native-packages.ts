/**
 * Loads packages with binaries, and node:zlib, when they are first needed, synchronously: each costs 2–10 ms, which a
 * command that sends one line must not pay. This is the one place that the build has to know (they stay outside the
 * bundle, and import.meta.url must be that of the file they are found from).
 */
import { createRequire } from 'node:module'
import type * as Zlib from 'node:zlib'
import { StreamError } from '../base/errors.ts'

let requirePackage: NodeJS.Require | undefined

export function loadZlib(): typeof Zlib {
  requirePackage ??= createRequire(import.meta.url)
  return requirePackage('node:zlib') as typeof Zlib
}

/** The module's exports, or undefined where the package or its binary is missing. */
export function tryLoadPackage<T>(name: '@node-rs/crc32' | 'lz4-napi' | 'snappy'): T | undefined {
  try {
    requirePackage ??= createRequire(import.meta.url)
    return requirePackage(name) as T
  } catch {
    return undefined
  }
}

/** @throws StreamError RUNTIME_MISSING */
export function loadPackage<T>(name: 'lz4-napi' | 'snappy'): T {
  const loaded = tryLoadPackage<T>(name)
  if (loaded === undefined) {
    throw new StreamError(
      'RUNTIME_MISSING',
      `the package ${name} is missing or has no binary here`,
      {
        hint: 'install again, or use zstd or gzip, which need no package',
        target: name,
      },
    )
  }
  return loaded
}
