/**
 * Node's own modules that are not in its snapshot and take time to load (in ms: net 5, tls 25, crypto 4, child_process 3, v8 2, tty 1,
 * module 0.2, os 0.1), loaded when first used: a command that needs none of them starts that much faster (test/bench, "start-up").
 */

export function netModule(): typeof import('node:net') {
  return process.getBuiltinModule('node:net')
}

export function tlsModule(): typeof import('node:tls') {
  return process.getBuiltinModule('node:tls')
}

export function cryptoModule(): typeof import('node:crypto') {
  return process.getBuiltinModule('node:crypto')
}

export function v8Module(): typeof import('node:v8') {
  return process.getBuiltinModule('node:v8')
}

export function ttyModule(): typeof import('node:tty') {
  return process.getBuiltinModule('node:tty')
}

export function childProcessModule(): typeof import('node:child_process') {
  return process.getBuiltinModule('node:child_process')
}

export function osModule(): typeof import('node:os') {
  return process.getBuiltinModule('node:os')
}

/** A `require` that finds packages as the file at `url` would. */
export function requireFrom(url: string): NodeJS.Require {
  return process.getBuiltinModule('node:module').createRequire(url)
}
