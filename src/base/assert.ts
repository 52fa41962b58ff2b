/**
 * Assertions for programmer errors. They stay on in production and crash the process: going on with a broken
 * invariant could lose data. Never use them on bytes from a wire or a disk, which are input (StreamError).
 */

export class AssertionError extends Error {
  override readonly name = 'AssertionError'
}

/** @throws AssertionError when `condition` is false; `invariant` says in words what should have held. */
export function assert(condition: unknown, invariant: string): asserts condition {
  if (!condition) throw new AssertionError(`invariant broken: ${invariant}`)
}

/** For the default branch of a switch over a tagged union: the compiler proves that it is never reached. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${String(value)}`)
}
