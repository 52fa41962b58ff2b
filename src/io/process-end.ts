/**
 * The end of this process, by our own hand.
 *
 * Node joins V8's compiler threads when it ends, and does nothing else meanwhile. One of them that finds the heap at its limit waits
 * for the main thread to collect garbage, and the main thread for it, for ever (nodejs/node issue 54918; one of a hundred runs of
 * `verify --any-order` with a socket for its output). So the garbage is collected before: what a compiler takes then is far
 * from the limit.
 */
import { v8Module } from './lazy-modules.ts'

/** What has lived no longer and taken no more is far from it anyway, and need not wait 5 ms. */
const YOUNG_SECONDS = 0.1
const SMALL_BYTES = 16 * 1024 * 1024

/** Without the exit events and the teardown of the environment, which take milliseconds; atexit handlers (terminal modes) run. */
export function endProcess(code: number): never {
  if (!isYoungAndSmall()) collectGarbage()
  const leave = (process as unknown as { reallyExit?: (code: number) => never }).reallyExit
  if (leave !== undefined) leave.call(process, code)
  process.exit(code)
}

function isYoungAndSmall(): boolean {
  if (process.uptime() > YOUNG_SECONDS) return false
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external < SMALL_BYTES
}

function collectGarbage(): void {
  try {
    // What `gc` does, which --expose-gc would show to contexts made later only.
    const { setFlagsFromString } = v8Module()
    setFlagsFromString('--allow-natives-syntax')
    new Function('%CollectGarbage(0)')()
    // A code cache that is made now would be refused by every process without that flag.
    setFlagsFromString('--no-allow-natives-syntax')
  } catch {
    // A V8 that does not know it any more: the end is as it would be without.
  }
}
