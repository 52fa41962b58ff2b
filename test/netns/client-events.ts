/**
 * What clients on their host tell the run, a line each, words apart by blanks:
 *
 *     ack    PRODUCER ORDINAL PARTITION OFFSET COUNT MS   delivered: COUNT records from ORDINAL on; OFFSET -1: not told
 *     sent   PRODUCER COUNT                               as many were given to it in its life
 *     read   READER PARTITION OFFSET MS VALUE...          COUNT values that stand one behind the other from OFFSET on
 *     txn    PRODUCER NUMBER committed|aborted|unknown MS
 *     error  WHO MESSAGE
 *     idle                                                all producers have been told to end, and have
 *
 * MS is the wall clock of the machine. A value names its producer and its place in the order of sending.
 */
import type { SentRecord } from '../sim/history.ts'

export interface Acknowledgement {
  readonly partition: number
  /** undefined: a duplicate whose place the broker no longer knows. */
  readonly offset: number | undefined
  readonly atMs: number
}

export interface Transaction {
  readonly producer: string
  readonly number: number
  readonly outcome: 'committed' | 'aborted' | 'unknown'
  readonly atMs: number
}

/** What one client process or several have told. */
export class ClientHistory {
  /** By producer, then by ordinal. */
  readonly acknowledgements = new Map<string, Map<number, Acknowledgement>>()
  readonly sent = new Map<string, number>()
  /** By reader, then `partition@offset`. */
  readonly read = new Map<string, Map<string, string>>()
  /** When each reader was given something, and each producer told something. */
  readonly times = new Map<string, number[]>()
  readonly transactions: Transaction[] = []
  readonly errors: string[] = []
  /** Reads of a place that did not fit what the same reader had found there before. */
  readonly contradictions: string[] = []

  take(line: string): void {
    const words = line.split(' ')
    switch (words[0]) {
      case 'ack':
        this.#acknowledge(words)
        return
      case 'sent':
        this.sent.set(words[1] ?? '', Number(words[2]))
        return
      case 'read':
        this.#read(words)
        return
      case 'txn': {
        const [, producer = '', number, outcome, at] = words
        this.transactions.push({
          producer,
          number: Number(number),
          outcome: outcome as Transaction['outcome'],
          atMs: Number(at),
        })
        if (outcome === 'committed') this.#at(producer, Number(at))
        return
      }
      case 'error':
        this.errors.push(words.slice(1).join(' '))
    }
  }

  acknowledged(): number {
    let count = 0
    for (const rows of this.acknowledgements.values()) count += rows.size
    return count
  }

  /** For `judge` of history.ts. */
  *records(topic: string): Generator<SentRecord> {
    for (const [producer, count] of this.sent) {
      const rows = this.acknowledgements.get(producer)
      for (let ordinal = 0; ordinal < count; ordinal++) {
        const row = rows?.get(ordinal)
        const acknowledged =
          row === undefined ? undefined : { topic, partition: row.partition, offset: row.offset }
        yield { producer, ordinal, value: `${producer}-${ordinal}`, acknowledged }
      }
    }
  }

  #acknowledge([, producer = '', first, partition, offset, count, at]: readonly string[]): void {
    let rows = this.acknowledgements.get(producer)
    if (rows === undefined) {
      rows = new Map()
      this.acknowledgements.set(producer, rows)
    }
    const atMs = Number(at)
    for (let index = 0; index < Number(count); index++) {
      rows.set(Number(first) + index, {
        partition: Number(partition),
        offset: Number(offset) < 0 ? undefined : Number(offset) + index,
        atMs,
      })
    }
    this.#at(producer, atMs)
  }

  #read([, reader = '', partition, offset, at, ...values]: readonly string[]): void {
    let rows = this.read.get(reader)
    if (rows === undefined) {
      rows = new Map()
      this.read.set(reader, rows)
    }
    for (const [index, value] of values.entries()) {
      const place = `${partition}@${Number(offset) + index}`
      const before = rows.get(place)
      if (before !== undefined && before !== value)
        this.contradictions.push(`${reader} at ${place}: ${before}, later ${value}`)
      rows.set(place, value)
    }
    this.#at(reader, Number(at))
  }

  #at(who: string, atMs: number): void {
    const times = this.times.get(who)
    if (times === undefined) this.times.set(who, [atMs])
    else times.push(atMs)
  }
}
