/** A daemon with a Kafka door of its own settings, beside others in one scratch home. */
import type { ChildProcess } from 'node:child_process'
import { daemonBundle, eventually, type Program } from './program.ts'

export interface KafkaDoor {
  /** `127.0.0.1:PORT` */
  readonly address: string
  /** The native door, by which users are made. */
  readonly native: string
  readonly process: ChildProcess
  /** What the daemon has said so far. */
  said(): string
}

export async function startKafkaDoor(
  program: Program,
  name: string,
  settings: readonly string[],
  flags: readonly string[] = [],
): Promise<KafkaDoor> {
  const socket = program.path(`${name}.sock`)
  const child = program.start(process.execPath, [
    ...[daemonBundle, '--data', program.path(`data-${name}`)],
    ...['--listen', `ipc://${socket}`, '--listen', 'kafka://127.0.0.1:0', ...flags],
    ...settings.flatMap((setting) => ['-X', setting]),
  ])
  let said = ''
  child.stderr?.on('data', (text) => {
    said += text
  })
  const address = await eventually(`the daemon ${name} serves: ${said}`, () => {
    if (child.exitCode !== null) throw new Error(`the daemon ${name} ended: ${said}`)
    return /kafka:\/\/(127\.0\.0\.1:\d+)/.exec(said)?.[1]
  })
  return { address, native: `ipc://${socket}`, process: child, said: () => said }
}
