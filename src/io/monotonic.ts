/**
 * The monotonic clock, in milliseconds with a fraction, from an arbitrary zero. Not `performance.now()`: its first use loads ten of
 * Node's modules, which a command that sends one line would pay with a millisecond.
 */
export function monotonicMs(): number {
  const [seconds, nanoseconds] = process.hrtime()
  return seconds * 1e3 + nanoseconds / 1e6
}
