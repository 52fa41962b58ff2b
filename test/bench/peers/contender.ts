/** What a peer brings to the race. All figures are taken by `race.ts`; a peer only says how its work is done. */
import type { Scratch } from '../harness.ts'

/** `durable`: on the disk before it is acknowledged or seen. `relaxed`: a crash of the machine loses what was acknowledged. */
export type Durability = 'durable' | 'relaxed'

export interface Payload {
  readonly path: string
  readonly lineBytes: number
  readonly records: number
}

/** Lines of one size; each contender takes the beginning that it gets through in seconds. */
export interface Payloads {
  readonly lineBytes: number
  readonly whole: Payload
  /** The first lines of the whole. */
  first(lines: number): Payload
}

export interface Stage {
  readonly scratch: Scratch
  readonly quick: boolean
}

export interface Measured {
  readonly ms: number
  readonly records: number
}

export interface Label {
  readonly name: string
  readonly durability: Durability
  /** How its durability is named in the table. */
  readonly flush: string
}

export interface Contender extends Label {
  /** Ours must be so many times as fast (issue's target); absent: for comparison only. */
  readonly must?: number
  /** Not timed. */
  prepare?(round: number): Promise<void> | void
  run(round: number): Promise<Measured> | Measured
  /** Not timed: that the work was really done. @throws Error saying what is missing */
  check?(round: number): Promise<void> | void
}

export interface Command {
  readonly command: string
  readonly args: readonly string[]
}

/** Lines into one process, the same lines out of the other. */
export interface LatencyContender extends Label {
  readonly producer: Command
  readonly consumer: Command
  /** What takes and gives the lines: the contender's own commands, or thin programs on its socket. Like is compared with like. */
  readonly means: 'commands' | 'sockets'
  readonly judged: boolean
  prepare?(): Promise<void> | void
}

export interface StartUpContender extends Command {
  readonly name: string
  readonly input: string
}

/** A bash line whose commands other than bash and cat are looked at. */
export interface MemoryContender {
  readonly name: string
  readonly line: string
}

export interface ServerProcess {
  readonly name: string
  readonly pid: number
}

export interface Peer {
  readonly title: string
  /** @throws Unavailable when its programs are not there */
  start(stage: Stage): Promise<void>
  /** Before the contenders of one line size are asked for: fills what is read from. */
  load(payloads: Payloads): Promise<void>
  produce(payloads: Payloads): readonly Contender[]
  consume(payloads: Payloads): readonly Contender[]
  /** All of it by one new member of a new group, committed; absent: the peer has no such command. */
  group?(payloads: Payloads): readonly Contender[]
  latency(): readonly LatencyContender[]
  startUp(): readonly StartUpContender[]
  memory(payloads: Payloads): readonly MemoryContender[]
  servers(): readonly ServerProcess[]
  stop(): Promise<void>
}

/** This machine cannot run the peer; the table says why. */
export class Unavailable extends Error {}
