/** What all groups of checks share: Kafka, the built program in a scratch home, and some text to send. */
import { eventually, type Program } from '../support/program.ts'
import type { Kafka } from './jvm-kafka.ts'

export interface Stage {
  readonly kafka: Kafka
  readonly program: Program
}

export function daemonAddresses(program: Program): {
  readonly kafka: string
  readonly data: string
} {
  const status = JSON.parse(program.ok('stream daemon status --json')) as {
    addresses: string[]
    data: string
  }
  const kafka = status.addresses.find((each) => each.startsWith('kafka://'))
  return { kafka: kafka?.slice('kafka://'.length) ?? '', data: status.data }
}

/** Stops the daemon and waits for the end of its process. */
export async function stopDaemon(program: Program): Promise<void> {
  const pid = program.daemonPid()
  program.ok('stream daemon stop')
  await gone(pid)
}

export function gone(pid: number): Promise<true> {
  return eventually(`process ${pid} ends`, () => {
    try {
      process.kill(pid, 0)
      return undefined
    } catch {
      return true
    }
  })
}

/** Lines of uneven length that compress. */
export function textLines(count: number, what: string): string[] {
  return Array.from(
    { length: count },
    (_, index) => `line ${index} ${what}${' and more of it'.repeat((index * 7) % 11)}`,
  )
}
