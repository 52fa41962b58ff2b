/** The flags of `pipe` as one plan, or the UsageError that says what contradicts what. */

import { UsageError } from '../src/base/errors.ts'
import { type PathName, parsePath } from '../src/text/json-scanner.ts'
import { parseCount, parseDuration, parseSize } from '../src/text/units.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import type { EpochLimits } from './pipe-epochs.ts'
import { type ReadPlan, readPlan } from './read-options.ts'
import { type RetryPolicy, readRetry, readSuccess } from './retry-policy.ts'
import { isGlob } from './topic-names.ts'

export type Barrier = 'exit' | 'line' | 'ack' | 'none'
export type ChildForm = 'value' | 'json' | 'sized'

/** From what the child prints to records. */
export interface PipeOutPlan {
  readonly topic: string
  readonly keepTopic: boolean
  readonly samePartition: boolean
  readonly key: string | undefined
  readonly keySeparator: Uint8Array | undefined
  readonly keyPath: PathName[] | undefined
}

export interface CarryPlan {
  /** Where the child finds it. */
  readonly path: string
  readonly by: 'partition' | 'job'
  readonly mayEmpty: boolean
}

export interface DlqLimit {
  readonly share: number
  readonly windowMs: number
}

export interface PipePlan {
  readonly words: readonly string[]
  /** Undefined: a source. */
  readonly read: ReadPlan | undefined
  /** Undefined: a sink. */
  readonly out: PipeOutPlan | undefined
  readonly job: string | undefined
  readonly barrier: Barrier
  readonly limits: EpochLimits
  /** The records of an epoch were not asked for: their number follows the child. */
  readonly grows: boolean
  /** Undefined: as many as there are cores. */
  readonly lanes: number | undefined
  readonly childIn: ChildForm
  readonly childOut: ChildForm
  readonly delimiter: Uint8Array
  readonly success: ReadonlySet<number>
  readonly isPartial: boolean
  readonly retry: RetryPolicy
  readonly onFail: 'bisect' | 'dlq' | 'stop'
  /** Undefined without a job: there is nowhere to put them. */
  readonly dlq: string | undefined
  readonly dlqLimit: DlqLimit
  readonly childTimeoutMs: number
  readonly stallMs: number
  readonly graceMs: number
  readonly carry: CarryPlan | undefined
  readonly isSingleton: boolean
  readonly isFixed: boolean
  readonly isDryRun: boolean
  readonly hasControl: boolean
  readonly spoolBytesMax: number
}

const NEWLINE = Uint8Array.of(10)
const defaultLimits: EpochLimits = { records: 5000, bytes: 8 * 1024 * 1024, ms: 250 }
const SPOOL_BYTES_MAX = 10 * 1024 ** 3

/** @throws UsageError */
export function readPipePlan(deps: CommandDeps, { flags, operands }: CommandArgs): PipePlan {
  const topics = flags.all('in')
  const hint = 'try: stream pipe --help'
  if (operands.length === 0) throw new UsageError('CMD is missing', hint)
  if (topics.length === 0 && !flags.has('out')) {
    throw new UsageError('--in, --out or both are missing', hint)
  }
  flags.exclusive('null', 'delim')
  const out = readOut(flags)
  const isSource = topics.length === 0
  const job = flags.text('job')
  if (job === '') throw new UsageError('--job: the name must not be empty')
  const barrier =
    flags.choice('barrier', ['exit', 'line', 'ack', 'none'] as const) ??
    (isSource ? 'line' : 'exit')
  const limits = readLimits(flags.text('epoch'))
  const carry = readCarry(flags)
  checkJob(flags, job)
  checkBarrier(flags, barrier, isSource)
  const onFail = flags.choice('on-fail', ['bisect', 'dlq', 'stop'] as const)
  const isSink = out === undefined
  const plan: PipePlan = {
    words: operands,
    read: isSource ? undefined : readInput(deps, flags, topics),
    out,
    job,
    barrier,
    limits: { ...defaultLimits, ...limits },
    grows: limits.records === undefined && barrier === 'exit',
    lanes: readLanes(flags, carry),
    childIn: flags.choice('child-in', ['value', 'json', 'sized'] as const) ?? 'value',
    childOut: flags.choice('child-out', ['value', 'json', 'sized'] as const) ?? 'value',
    delimiter: flags.has('null') ? Uint8Array.of(0) : (flags.escapedBytes('delim') ?? NEWLINE),
    success: readSuccess(flags),
    isPartial: flags.has('partial'),
    retry: readRetry(flags),
    onFail: onFail ?? (isSink || job === undefined ? 'stop' : 'bisect'),
    dlq: flags.text('dlq') ?? (job === undefined ? undefined : `${job}.dlq`),
    dlqLimit: readDlqLimit(flags.text('dlq-max') ?? '1%/5m'),
    childTimeoutMs: flags.durationMs('child-timeout') ?? 300_000,
    stallMs: flags.durationMs('stall') ?? 30_000,
    graceMs: flags.durationMs('grace') ?? 10_000,
    carry,
    isSingleton: flags.has('singleton') || carry?.by === 'job',
    isFixed: flags.has('fixed') || (isSink && job !== undefined && barrier === 'exit'),
    isDryRun: flags.has('dry-run'),
    hasControl: flags.has('ctl'),
    spoolBytesMax: flags.sizeBytes('spool-max') ?? SPOOL_BYTES_MAX,
  }
  checkForms(flags, plan)
  return plan
}

function readInput(deps: CommandDeps, all: Flags, topics: readonly string[]): ReadPlan {
  // These mean something else here.
  let flags = all
  for (const name of ['key', 'key-sep', 'json', 'count', 'null', 'delim'])
    flags = flags.without(name)
  const count = all.text('count')
  if (count !== undefined) flags = flags.with('count', count)
  const isDryRun = all.has('dry-run')
  if (isDryRun && !['until', 'until-end'].some((name) => all.has(name))) {
    flags = flags.with('until', 'now')
  }
  return readPlan(deps, { flags, operands: topics }, { command: 'pipe', follows: true })
}

function readOut(flags: Flags): PipeOutPlan | undefined {
  const topic = flags.text('out')
  const keepTopic = flags.has('keep-topic')
  if (topic === undefined) {
    for (const name of ['keep-topic', 'key', 'key-sep', 'key-json', 'same-partition']) {
      if (flags.has(name)) throw new UsageError(`--${name} needs --out`)
    }
    return undefined
  }
  flags.exclusive('key-sep', 'key-json')
  if (!keepTopic && isGlob(topic)) throw new UsageError(`--out ${topic}: a glob needs --keep-topic`)
  const path = flags.text('key-json')
  const keyPath = path === undefined ? undefined : parsePath(path)
  if (path !== undefined && keyPath === undefined) {
    throw new UsageError(`--key-json ${path}: must be a path such as .user.id`)
  }
  return {
    topic,
    keepTopic,
    samePartition: flags.has('same-partition'),
    key: flags.text('key'),
    keySeparator: flags.escapedBytes('key-sep'),
    keyPath,
  }
}

function checkJob(flags: Flags, job: string | undefined): void {
  if (job !== undefined) return
  for (const name of ['carry', 'singleton', 'fixed']) {
    if (flags.has(name)) throw new UsageError(`--${name} needs --job`)
  }
  const wants = flags.text('on-fail')
  if (wants !== undefined && wants !== 'stop' && !flags.has('dlq')) {
    throw new UsageError(`--on-fail ${wants} needs --job, or --dlq TOPIC`)
  }
}

function checkBarrier(flags: Flags, barrier: Barrier, isSource: boolean): void {
  if (flags.has('ctl') && barrier !== 'ack') throw new UsageError('--ctl needs --barrier ack')
  if (flags.has('fixed') && barrier !== 'exit') throw new UsageError('--fixed needs --barrier exit')
  if (flags.has('carry') && barrier !== 'exit') {
    throw new UsageError('--carry needs --barrier exit; with ack the child says: state JSON')
  }
  if (flags.has('partial') && barrier !== 'exit') {
    throw new UsageError('--partial needs --barrier exit')
  }
  if (!isSource) return
  if (barrier === 'ack' && !flags.has('job')) {
    throw new UsageError('--barrier ack of a source needs --job, which keeps its state')
  }
  if (barrier === 'none') throw new UsageError('--barrier none needs --in')
  for (const name of ['from', 'since', 'until', 'until-end', 'count', 'same-partition', 'carry']) {
    if (flags.has(name)) throw new UsageError(`--${name} needs --in`)
  }
}

function checkForms(flags: Flags, { childOut, childIn, barrier, out }: PipePlan): void {
  if (out?.keepTopic === true && childOut !== 'json') {
    throw new UsageError('--keep-topic needs envelopes: --child-out json')
  }
  if (childOut !== 'value' && flags.has('key-sep')) {
    throw new UsageError(`--key-sep is of lines, not of --child-out ${childOut}`)
  }
  if (childIn === 'sized' && childOut === 'sized') {
    for (const name of ['null', 'delim']) {
      if (flags.has(name)) throw new UsageError(`--${name} is of lines, not of sized records`)
    }
  }
  if (barrier === 'line' && (childIn === 'sized' || childOut === 'sized')) {
    throw new UsageError('--barrier line counts lines: sized needs --barrier exit')
  }
  if ((barrier === 'ack' || barrier === 'none') && childOut === 'sized') {
    throw new UsageError(`--barrier ${barrier} reads lines: --child-out sized needs --barrier exit`)
  }
}

function readCarry(flags: Flags): CarryPlan | undefined {
  const path = flags.text('carry')
  const by = flags.choice('carry-by', ['partition', 'job'] as const)
  if (path === undefined) {
    for (const name of ['carry-by', 'carry-may-empty']) {
      if (flags.has(name)) throw new UsageError(`--${name} needs --carry FILE`)
    }
    return undefined
  }
  return { path, by: by ?? 'partition', mayEmpty: flags.has('carry-may-empty') }
}

function readLanes(flags: Flags, carry: CarryPlan | undefined): number | undefined {
  const lanes = flags.wholeNumber('parallel')
  if (lanes === 0) throw new UsageError('--parallel 0: must be at least 1')
  if (carry?.by !== 'job') return lanes
  if (lanes !== undefined && lanes > 1) {
    throw new UsageError('--carry-by job has one lane: --parallel 1')
  }
  return 1
}

/** `5000,8MiB,250ms`, each part once, in any order. @throws UsageError */
function readLimits(text: string | undefined): { records?: number; bytes?: number; ms?: number } {
  const limits: { records?: number; bytes?: number; ms?: number } = {}
  if (text === undefined) return limits
  const parts = text.split(',')
  for (const part of parts) {
    const count = parseCount(part)
    const durationMs = count === undefined ? parseDuration(part) : undefined
    const bytes = count === undefined && durationMs === undefined ? parseSize(part) : undefined
    if (count !== undefined && count > 0) limits.records = count
    else if (durationMs !== undefined && durationMs > 0) limits.ms = durationMs
    else if (bytes !== undefined && bytes > 0) limits.bytes = bytes
    else throw badEpoch(text)
  }
  if (Object.keys(limits).length < parts.length) throw badEpoch(text)
  return limits
}

function badEpoch(text: string): UsageError {
  return new UsageError(`--epoch ${text}: must be records, bytes, time such as 5000,8MiB,250ms`)
}

/** `1%/5m`. @throws UsageError */
function readDlqLimit(text: string): DlqLimit {
  const match = /^(\d+(?:\.\d+)?)%\/(.+)$/.exec(text)
  const windowMs = parseDuration(match?.[2] ?? '')
  const percent = Number(match?.[1])
  if (match === null || windowMs === undefined || windowMs === 0 || percent > 100) {
    throw new UsageError(`--dlq-max ${text}: must be a share of a time such as 1%/5m`)
  }
  return { share: percent / 100, windowMs }
}
