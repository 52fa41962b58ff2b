/**
 * The monotonic clock, in milliseconds with a fraction since the start of the process. Not `performance.now()`: its first use loads
 * ten of Node's modules, which a command that sends one line would pay with a millisecond.
 */
export function monotonicMs(): number {
  return process.uptime() * 1e3
}
