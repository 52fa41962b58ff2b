/**
 * Child processes, on execa. A bundle of its own (build/build.mjs): only commands that run programs load it.
 *
 * A file as standard input shares its read position with the child, so what is left behind that position was not read.
 */
import {
  closeSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  writeSync,
} from 'node:fs'
import type { Readable, Writable } from 'node:stream'
import { execa, type Options } from 'execa'
import type {
  Child,
  ChildEnd,
  ChildInput,
  ChildOutput,
  ChildPlan,
  Children,
} from '../ports/children.ts'

const ERROR_TAIL_BYTES_MAX = 2048
/** How often the size of an output file is looked at. */
const OUTPUT_CHECK_MS = 50
/** How often a process group is asked whether it is gone: at first, and later. */
const GROUP_CHECK_MS = 5
const GROUP_CHECK_MS_MAX = 100
const LAST_BYTES_MS = 100
const STANDARD_ERROR = 2

export function openChildren(): Children {
  return { start: (plan) => new RealChild(plan) }
}

class RealChild implements Child {
  readonly processId: number | undefined
  readonly input: PipeInput | undefined
  readonly output: PipeOutput | undefined
  readonly control: PipeOutput | undefined
  readonly ended: Promise<ChildEnd>
  readonly #plan: ChildPlan
  readonly #files: PlanFiles
  readonly #errorTail = new ErrorTail()
  #stopped: ChildEnd['stopped']
  #isOver = false
  #killTimer: NodeJS.Timeout | undefined

  constructor(plan: ChildPlan) {
    this.#plan = plan
    this.#files = new PlanFiles(plan)
    const [program = '', ...args] = plan.words
    const child = execa(program, args, optionsOf(plan, this.#files))
    this.processId = child.pid
    const started: readonly unknown[] = child.stdio ?? []
    const [input, output, error, control] = started
    if (plan.input === 'pipe' && input) this.input = new PipeInput(input as Writable)
    if (plan.output === 'pipe' && output) this.output = new PipeOutput(output as Readable)
    if (plan.control === true && control) this.control = new PipeOutput(control as Readable)
    if (error) this.#errorTail.take(error as Readable)

    const exited = new Promise<Exit>((resolve) => {
      child.once('exit', (exit, signal) =>
        resolve({ exit: exit ?? undefined, signal: signal ?? undefined, cannotStart: undefined }),
      )
      // Also of a program that cannot be started at all, which has no process and no events.
      const onFailure = (code: string | undefined): void => {
        if (child.pid === undefined) {
          resolve({ exit: undefined, signal: undefined, cannotStart: code ?? 'EFAILED' })
        }
      }
      child.once('error', (cause: NodeJS.ErrnoException) => onFailure(cause.code))
      void child.then(({ code }) => onFailure(code))
    })
    const timers = this.#watch()
    this.ended = this.#finish(exited).finally(() => {
      for (const timer of timers) clearInterval(timer)
      clearTimeout(this.#killTimer)
      this.#files.close()
    })
  }

  stop(): void {
    this.#stop('asked')
  }

  #stop(reason: ChildEnd['stopped']): void {
    if (this.#isOver || this.#stopped !== undefined) return
    this.#stopped = reason
    this.#signal('SIGTERM')
    this.#killTimer = setTimeout(() => this.#signal('SIGKILL'), this.#plan.graceMs)
  }

  #watch(): readonly NodeJS.Timeout[] {
    const { timeoutMs } = this.#plan
    const timers: NodeJS.Timeout[] = []
    if (timeoutMs !== undefined) timers.push(setTimeout(() => this.#stop('timed-out'), timeoutMs))
    if (this.#files.hasOutput) {
      const check = (): void => {
        if (this.#files.isOutputTooLong()) this.#stop('output-limit')
      }
      timers.push(setInterval(check, OUTPUT_CHECK_MS))
    }
    return timers
  }

  async #finish(exited: Promise<Exit>): Promise<ChildEnd> {
    const exit = await exited
    const hasLeftProcesses = exit.cannotStart === undefined && (await this.#endLeftProcesses())
    this.#isOver = true
    await this.#closeStreams()
    if (this.#files.isOutputTooLong()) this.#stopped ??= 'output-limit'
    return {
      ...exit,
      stopped: this.#stopped,
      hasUnreadInput: this.#files.hasUnreadInput() || this.input?.isLost === true,
      hasLeftProcesses,
      errorTail: this.#errorTail.bytes(),
    }
  }

  /** What the child left running gets the grace to end by itself, and another one after SIGTERM. */
  async #endLeftProcesses(): Promise<boolean> {
    if (await this.#groupGone(this.#plan.graceMs)) return false
    this.#signal('SIGTERM')
    if (!(await this.#groupGone(this.#plan.graceMs))) this.#signal('SIGKILL')
    return true
  }

  async #groupGone(waitMs: number): Promise<boolean> {
    let checkMs = GROUP_CHECK_MS
    for (let waitedMs = 0; this.#signal(0) && this.#hasLiving(); waitedMs += checkMs) {
      if (waitedMs >= waitMs) return false
      checkMs = Math.min(checkMs * 2, GROUP_CHECK_MS_MAX, Math.max(1, waitMs - waitedMs))
      await new Promise((resolve) => setTimeout(resolve, checkMs))
    }
    return true
  }

  /** Orphans that have ended are still there for signals until the first process of the system reaps them. */
  #hasLiving(): boolean {
    return this.processId !== undefined && hasLivingProcess(this.processId)
  }

  /** @returns whether there was any process of the group to signal */
  #signal(signal: NodeJS.Signals | 0): boolean {
    if (this.processId === undefined) return false
    try {
      process.kill(-this.processId, signal)
      return true
    } catch {
      return false
    }
  }

  /** A process that left the group may hold the other end of a stream for ever: after the grace it is let go. */
  async #closeStreams(): Promise<void> {
    this.input?.end()
    const open = [this.output, this.control, this.#errorTail].filter((each) => each !== undefined)
    const closed = Promise.all(open.map((each) => each.closed))
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, this.#plan.graceMs)
    })
    await Promise.race([closed, late])
    clearTimeout(timer)
    for (const each of open) each.letGo()
  }
}

/** @returns true where the system does not tell */
function hasLivingProcess(groupId: number): boolean {
  let names: readonly string[]
  try {
    names = readdirSync('/proc')
  } catch {
    return true
  }
  if (!names.includes('self')) return true
  for (const name of names) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1')
      // PID (NAME) STATE PARENT GROUP …
      const [state, , group] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      if (Number(group) === groupId && state !== 'Z' && state !== 'X') return true
    } catch {
      // It has ended meanwhile.
    }
  }
  return false
}

interface Exit {
  readonly exit: number | undefined
  readonly signal: string | undefined
  readonly cannotStart: string | undefined
}

const inputOf = { none: 'ignore', inherit: 'inherit', pipe: 'pipe' } as const

function optionsOf(plan: ChildPlan, files: PlanFiles): Options {
  const input = typeof plan.input === 'string' ? inputOf[plan.input] : files.input
  const output = typeof plan.output === 'string' ? plan.output : files.output
  const error = plan.error === 'inherit' ? 'inherit' : 'pipe'
  return {
    env: plan.environment as Record<string, string>,
    stdio: [input ?? 'ignore', output ?? 'ignore', error, ...(plan.control ? ['pipe'] : [])],
    // Its own session: Ctrl-C of the terminal is ours to pass on.
    detached: true,
    buffer: false,
    reject: false,
    cleanup: false,
  } as Options
}

/** The descriptors of a plan's files. */
class PlanFiles {
  readonly input: number | undefined
  readonly output: number | undefined
  readonly #outputBytesMax: number = 0

  constructor({ input, output }: ChildPlan) {
    if (typeof input !== 'string') this.input = openSync(input.path, 'r')
    if (typeof output !== 'string') {
      this.output = openSync(output.path, 'w', 0o600)
      this.#outputBytesMax = output.bytesMax
    }
  }

  get hasOutput(): boolean {
    return this.output !== undefined
  }

  isOutputTooLong(): boolean {
    return this.output !== undefined && fstatSync(this.output).size > this.#outputBytesMax
  }

  hasUnreadInput(): boolean {
    return this.input !== undefined && readSync(this.input, new Uint8Array(1), 0, 1, null) > 0
  }

  close(): void {
    if (this.input !== undefined) closeSync(this.input)
    if (this.output !== undefined) closeSync(this.output)
  }
}

class PipeInput implements ChildInput {
  /** Something that was written was not taken. */
  isLost = false
  readonly #stream: Writable

  constructor(stream: Writable) {
    this.#stream = stream
    stream.on('error', () => {
      this.isLost = true
    })
  }

  write(bytes: Uint8Array): Promise<boolean> {
    return new Promise((resolve) => {
      this.#stream.write(bytes, (error) => {
        if (error) this.isLost = true
        resolve(!error)
      })
    })
  }

  end(): void {
    this.#stream.end()
  }
}

class PipeOutput implements ChildOutput {
  readonly closed: Promise<void>
  readonly #stream: Readable
  #wake: () => void = () => undefined
  #isLetGo = false

  constructor(stream: Readable) {
    this.#stream = stream
    const wake = (): void => this.#wake()
    stream.on('readable', wake)
    stream.on('error', wake)
    this.closed = new Promise((resolve) => {
      stream.once('close', () => {
        this.#wake()
        resolve()
      })
    })
  }

  async read(): Promise<Uint8Array | undefined> {
    for (;;) {
      const chunk: Uint8Array | null = this.#stream.read()
      if (chunk !== null) return chunk
      if (this.#stream.readableEnded || this.#stream.destroyed) return undefined
      let timer: NodeJS.Timeout | undefined
      await new Promise<void>((resolve) => {
        this.#wake = resolve
        // What the child has left is on its way; who else holds the pipe may hold it for ever.
        if (this.#isLetGo) timer = setTimeout(() => this.#stream.destroy(), LAST_BYTES_MS)
      })
      clearTimeout(timer)
    }
  }

  /** Nothing is waited for any more. What is here is for a reader who is only slow. */
  letGo(): void {
    this.#isLetGo = true
    if (this.#stream.readableLength === 0 || !this.#stream.readableDidRead) this.#stream.destroy()
  }
}

/** Copies standard error to ours and keeps its end. */
class ErrorTail {
  closed: Promise<void> = Promise.resolve()
  #stream: Readable | undefined
  #tail: Buffer = Buffer.alloc(0)

  take(stream: Readable): void {
    this.#stream = stream
    stream.on('data', (chunk: Buffer) => {
      copyToError(chunk)
      const joined = Buffer.concat([this.#tail, chunk])
      this.#tail = joined.subarray(Math.max(0, joined.length - ERROR_TAIL_BYTES_MAX))
    })
    stream.on('error', () => undefined)
    this.closed = new Promise((resolve) => {
      stream.once('close', () => resolve())
    })
  }

  bytes(): Uint8Array {
    return this.#tail
  }

  letGo(): void {
    this.#stream?.destroy()
  }
}

/** As our own lines there: what cannot be written is lost, because there is nowhere to tell. */
function copyToError(bytes: Uint8Array): void {
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(STANDARD_ERROR, bytes, at)
  } catch {
    // EAGAIN, EPIPE
  }
}
