/**
 * What clients of all kinds did and saw, as a history of operations, and its judge: the checker of reliability.md section 4 for
 * records, transactions and groups. Values are unique over the run; a key is a partition.
 *
 * Normal for Kafka, and so no anomaly here: foreign records between two sends of one transaction (int-send-skip), write
 * cycles (G0), cycles that need the order of writes or what was not read (G1c with ww edges, G-single, G2).
 */

export interface Placed {
  readonly offset: number
  readonly value: string
}

/** One answer of a poll: records of one key in the order in which they were handed out. */
export interface Poll {
  readonly kind: 'poll'
  readonly key: string
  readonly records: readonly Placed[]
}

export interface Send {
  readonly kind: 'send'
  readonly key: string
  readonly value: string
  /** Where the broker said it stands; undefined: not told. */
  readonly offset: number | undefined
}

export interface Operation {
  /** One life of one client. */
  readonly process: string
  /** `fail`: certainly did not happen. `info`: nobody can tell. */
  readonly outcome: 'ok' | 'fail' | 'info'
  /** All of its steps happen, or none. */
  readonly isTransaction: boolean
  readonly steps: readonly (Poll | Send)[]
}

/** From here on the process reads these keys from another place: what it reads next need not follow what it read before. */
export interface Moved {
  readonly process: string
  readonly moved: readonly string[]
}

export interface CommitSeen {
  readonly group: string
  readonly key: string
  readonly offset: number
  /** When, and in which generation; only where `asked` is told. */
  readonly atMs?: number
  readonly generation?: number
}

export interface OperationHistory {
  /** In the order of their completion; of one process in the order in which it did them. */
  readonly operations: readonly (Operation | Moved)[]
  /** All that a read_committed reader finds in the end, once nothing is open any more. */
  readonly final: readonly Poll[]
  /** What was seen of committed offsets, in the order of seeing. */
  readonly commits?: readonly CommitSeen[]
  /**
   * What members asked to be committed, in this order, where the network gives requests to the daemon twice: no protocol tells a
   * commit that comes again, late, from a new one.
   */
  readonly asked?: readonly CommitSeen[]
  /** Keys in which a transaction is still open after the end. */
  readonly open?: readonly string[]
}

export const operationAnomalyKinds = [
  'inconsistent-offsets',
  'duplicate',
  'lost-write',
  'unseen',
  'aborted-read',
  'torn-transaction',
  'precommitted-read',
  'poll-skip',
  'nonmonotonic-poll',
  'int-poll-skip',
  'int-nonmonotonic-poll',
  'nonmonotonic-send',
  'int-nonmonotonic-send',
  'information-cycle',
  'commit-regress',
  'hanging-transaction',
] as const

export type OperationAnomalyKind = (typeof operationAnomalyKinds)[number]

export interface OperationAnomaly {
  readonly kind: OperationAnomalyKind
  readonly detail: string
}

type Add = (kind: OperationAnomalyKind, detail: string) => void

export function judgeOperations(history: OperationHistory): OperationAnomaly[] {
  const anomalies: OperationAnomaly[] = []
  const add: Add = (kind, detail) => {
    anomalies.push({ kind, detail })
  }
  const places = findPlaces(history, add)
  judgeWrites(history, places, add)
  judgeReads(history, add)
  judgeOrder(history, places, add)
  for (const cycle of findCycles(history)) add('information-cycle', cycle)
  judgeGroups(history, add)
  for (const key of history.open ?? []) add('hanging-transaction', `${key}: open for ever`)
  return anomalies
}

const isMoved = (each: Operation | Moved): each is Moved => 'moved' in each

function* workOf(history: OperationHistory): Iterable<Operation> {
  for (const each of history.operations) if (!isMoved(each)) yield each
}

/** Every poll whose answer was really given out, the final ones too. */
function* pollsOf(history: OperationHistory): Iterable<Poll> {
  for (const { steps } of workOf(history)) {
    for (const step of steps) if (step.kind === 'poll') yield step
  }
  yield* history.final
}

interface Places {
  /** Of the committed log: the offsets of each key that hold something, rising. */
  readonly existing: ReadonlyMap<string, readonly number[]>
  /** Values of the final read. */
  readonly finals: ReadonlySet<string>
  /** Values that anybody has read. */
  readonly read: ReadonlySet<string>
  /** The highest offset of each key that anybody has read. */
  readonly highest: ReadonlyMap<string, number>
}

function findPlaces(history: OperationHistory, add: Add): Places {
  const valueAt = new Map<string, string>()
  const offsetOf = new Map<string, string>()
  const read = new Set<string>()
  const highest = new Map<string, number>()
  const note = (key: string, offset: number, value: string): void => {
    const place = `${key}@${offset}`
    const other = valueAt.get(place)
    if (other !== undefined && other !== value)
      add('inconsistent-offsets', `${place}: ${other}, ${value}`)
    valueAt.set(place, value)
    const before = offsetOf.get(value)
    if (before !== undefined && before !== place)
      add('duplicate', `${value} at ${before} and ${place}`)
    offsetOf.set(value, place)
  }
  for (const { outcome, steps } of workOf(history)) {
    for (const step of steps) {
      if (step.kind === 'send' && step.offset !== undefined && outcome !== 'fail')
        note(step.key, step.offset, step.value)
    }
  }
  for (const { key, records } of pollsOf(history)) {
    for (const { offset, value } of records) {
      note(key, offset, value)
      read.add(value)
      highest.set(key, Math.max(highest.get(key) ?? -1, offset))
    }
  }
  const existing = new Map<string, number[]>()
  const finals = new Set<string>()
  for (const { key, records } of history.final) {
    const offsets = existing.get(key) ?? []
    existing.set(key, offsets)
    for (const { offset, value } of records) {
      offsets.push(offset)
      finals.add(value)
    }
  }
  return { existing, finals, read, highest }
}

function judgeWrites(history: OperationHistory, places: Places, add: Add): void {
  for (const { process, outcome, isTransaction, steps } of workOf(history)) {
    const sends = steps.filter((step) => step.kind === 'send')
    const there = sends.filter(({ value }) => places.finals.has(value)).length
    if (isTransaction && outcome !== 'fail' && there > 0 && there < sends.length) {
      add(
        'torn-transaction',
        `${process}: ${there} of ${sends.length} values, of ${sends[0]?.value}`,
      )
    }
    if (outcome !== 'ok') continue
    for (const { key, value, offset } of sends) {
      if (places.finals.has(value)) continue
      const isPassed = offset !== undefined && offset < (places.highest.get(key) ?? -1)
      if (isPassed && !places.read.has(value)) add('lost-write', `${value} at ${key}@${offset}`)
      else add('unseen', `${value} acknowledged at ${key}@${offset}`)
    }
  }
}

function judgeReads(history: OperationHistory, add: Add): void {
  const failed = new Set<string>()
  for (const { outcome, steps } of workOf(history)) {
    if (outcome !== 'fail') continue
    for (const step of steps) if (step.kind === 'send') failed.add(step.value)
  }
  for (const { key, records } of pollsOf(history)) {
    for (const { offset, value } of records) {
      if (failed.has(value)) add('aborted-read', `${value} at ${key}@${offset}`)
    }
  }
  for (const { process, isTransaction, steps } of workOf(history)) {
    if (!isTransaction) continue
    const own = new Set<string>()
    for (const step of steps) {
      if (step.kind === 'send') own.add(step.value)
      else {
        for (const { value } of step.records) {
          if (own.has(value)) add('precommitted-read', `${process} reads its own ${value}`)
        }
      }
    }
  }
}

/** Polls and sends of a process go forward and leave nothing out; within one operation, and from one to the next. */
function judgeOrder(history: OperationHistory, places: Places, add: Add): void {
  const polled = new Map<string, number>()
  const sent = new Map<string, number>()
  for (const each of history.operations) {
    const { process } = each
    if (isMoved(each)) {
      for (const key of each.moved) polled.delete(`${process}/${key}`)
      continue
    }
    const touched = new Set<string>()
    const isInner = (what: string): boolean => {
      const known = touched.has(what)
      touched.add(what)
      return each.isTransaction && known
    }
    for (const step of each.steps) {
      const place = `${process}/${step.key}`
      if (step.kind === 'send') {
        if (step.offset === undefined || each.outcome === 'fail') continue
        const before = sent.get(place)
        const kind = isInner(`send ${place}`) ? 'int-nonmonotonic-send' : 'nonmonotonic-send'
        if (before !== undefined && step.offset <= before)
          add(kind, `${place}: ${step.value} at ${step.offset} after ${before}`)
        sent.set(place, step.offset)
        continue
      }
      let inner = isInner(`poll ${place}`)
      for (const { offset } of step.records) {
        const before = polled.get(place)
        const prefix = inner ? 'int-' : ''
        if (before !== undefined && offset <= before)
          add(`${prefix}nonmonotonic-poll`, `${place}: ${offset} after ${before}`)
        else if (before !== undefined) {
          const left = nextAfter(places.existing.get(step.key) ?? [], before)
          if (left !== undefined && left < offset)
            add(
              `${prefix}poll-skip`,
              `${place}: ${offset} after ${before}, though ${left} is there`,
            )
        }
        polled.set(place, offset)
        inner = each.isTransaction
      }
    }
  }
}

/** Binary search in what rises. */
function nextAfter(offsets: readonly number[], offset: number): number | undefined {
  let low = 0
  let high = offsets.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((offsets[middle] as number) <= offset) low = middle + 1
    else high = middle
  }
  return offsets[low]
}

/** G1c of edges from writer to reader alone: no order of the operations explains what they have read of each other. */
function findCycles(history: OperationHistory): string[] {
  const writers = new Map<string, Operation>()
  const happened = [...workOf(history)].filter(({ outcome }) => outcome !== 'fail')
  for (const operation of happened) {
    for (const step of operation.steps) if (step.kind === 'send') writers.set(step.value, operation)
  }
  const readers = new Map<Operation, Set<Operation>>()
  for (const operation of happened) {
    for (const step of operation.steps) {
      if (step.kind !== 'poll') continue
      for (const { value } of step.records) {
        const writer = writers.get(value)
        if (writer === undefined || writer === operation) continue
        const edges = readers.get(writer) ?? new Set()
        readers.set(writer, edges)
        edges.add(operation)
      }
    }
  }
  const state = new Map<Operation, 'open' | 'done'>()
  const cycles: string[] = []
  const path: { readonly operation: Operation; readonly next: Iterator<Operation> }[] = []
  const enter = (operation: Operation): void => {
    state.set(operation, 'open')
    path.push({ operation, next: (readers.get(operation) ?? [])[Symbol.iterator]() })
  }
  for (const start of happened) {
    if (state.has(start)) continue
    enter(start)
    for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
      const { value, done } = top.next.next()
      if (done === true) {
        state.set(top.operation, 'done')
        path.pop()
      } else if (!state.has(value)) enter(value)
      else if (state.get(value) === 'open') {
        const from = path.findIndex(({ operation }) => operation === value)
        cycles.push(
          path
            .slice(from)
            .map(({ operation }) => operation.process)
            .join(' → '),
        )
      }
    }
  }
  return cycles
}

/** It was asked for in the generation of the later position, and not again since: the earlier request has come once more. */
function isRepeat({ asked = [] }: OperationHistory, seen: CommitSeen, before: number): boolean {
  const { key, offset, atMs = 0 } = seen
  const of = (wanted: number): readonly CommitSeen[] =>
    asked.filter((each) => each.key === key && each.offset === wanted && (each.atMs ?? 0) <= atMs)
  const earlier = of(offset).at(-1)
  const later = of(before)[0]
  if (earlier === undefined || later === undefined) return false
  return earlier.generation === later.generation && (earlier.atMs ?? 0) < (later.atMs ?? 0)
}

function judgeGroups(history: OperationHistory, add: Add): void {
  const high = new Map<string, number>()
  for (const seen of history.commits ?? []) {
    const { group, key, offset } = seen
    const place = `${group}: ${key}`
    const before = high.get(place) ?? -1
    if (offset < before && !isRepeat(history, seen, before))
      add('commit-regress', `${place}: ${offset} after ${before}`)
    high.set(place, Math.max(before, offset))
  }
}
