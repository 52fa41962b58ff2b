/**
 * What a script gives that nobody can have meant, told at once and by name: plain JavaScript has no types that would do it, and further
 * in it would be a broken invariant.
 */
import { StreamError } from '../base/errors.ts'
import { codecs } from '../record/compression.ts'
import type { ConsumerOptions, Place, Position, ProducerOptions } from './public.d.ts'

const ACKS = ['all', 1, 0] as const
const ISOLATIONS = ['read_committed', 'read_uncommitted'] as const
const INT32_MAX = 0x7fffffff

/** @throws StreamError CONFIG_INVALID */
export function checkProducerOptions(options: ProducerOptions): void {
  const { acks, compression, lingerMs, deliveryTimeoutMs } = options
  checkChoice('acks', acks, ACKS)
  checkChoice('compression', compression, codecs)
  checkDelay('lingerMs', lingerMs)
  checkDelay('deliveryTimeoutMs', deliveryTimeoutMs)
}

/** @throws StreamError CONFIG_INVALID */
export function checkConsumerOptions(options: ConsumerOptions): void {
  const { topics, partitions, from, until, isolation } = options
  const names: readonly unknown[] = Array.isArray(topics) ? topics : [topics]
  if (names.length === 0) throw invalid('topics', '', 'give at least one name')
  for (const name of names) {
    if (typeof name !== 'string') throw invalid('topics', name, 'give a name, or an array of names')
  }
  if (isGiven(partitions) && !Array.isArray(partitions)) {
    throw invalid('partitions', partitions, 'give an array of numbers')
  }
  if (Array.isArray(from)) checkPositions(from)
  else if (isGiven(from)) checkPlace('from', from as Place)
  if (until !== undefined) checkPlace('until', until)
  checkChoice('isolation', isolation, ISOLATIONS)
}

function checkPlace(name: string, place: Place): void {
  if (Number.isSafeInteger(place) || isTopicPlace(place)) return
  throw invalid(name, place, "give 'start', 'end', a whole number (an offset), or a valid Date")
}

/** One that is the same for all partitions. @throws StreamError CONFIG_INVALID */
export function checkTopicPlace(name: string, place: Place): void {
  if (!isTopicPlace(place)) throw invalid(name, place, "give 'start', 'end' or a valid Date")
}

function isTopicPlace(place: Place): boolean {
  if (place instanceof Date) return !Number.isNaN(place.getTime())
  return place === 'start' || place === 'end'
}

/** @param value  undefined: the default @throws StreamError CONFIG_INVALID for what is no number of so many things */
export function checkCount(name: string, value: number | undefined): void {
  if (value === undefined || (Number.isInteger(value) && Math.abs(value) <= INT32_MAX)) return
  throw invalid(name, value, 'give a whole number')
}

/** @throws StreamError CONFIG_INVALID */
export function checkOffset(name: string, offset: number): void {
  if (!Number.isSafeInteger(offset)) throw invalid(name, offset, 'give a whole number')
}

/** What can be gone through. @throws StreamError CONFIG_INVALID */
export function checkRecords(records: unknown): void {
  const each = records as Partial<Iterable<unknown> & AsyncIterable<unknown>> | null | undefined
  const isText = typeof records === 'string'
  if (!isText && (each?.[Symbol.iterator] ?? each?.[Symbol.asyncIterator]) !== undefined) return
  throw invalid('records', records, 'give an array of records, or another iterable of them')
}

/** Not one that is too high: that only the brokers know. @throws StreamError TOPIC_UNKNOWN */
export function checkPartition(topic: string, partition: number): void {
  if (!Number.isInteger(partition) || partition < 0) throw noSuchPartition(topic, partition)
}

export function noSuchPartition(topic: string, partition: number): StreamError {
  const target = `${topic} partition ${partition}`
  return new StreamError('TOPIC_UNKNOWN', `${target}: no such partition`, { target })
}

/** As brokers are asked for it: below 0 are not times but other questions. */
export function timeOf(date: Date): number {
  return Math.max(0, date.getTime())
}

function checkPositions(positions: readonly Position[]): void {
  for (const position of positions as readonly (Position | null)[]) {
    const offset = position?.offset
    if (Number.isSafeInteger(offset) && Number(offset) >= 0) continue
    throw invalid('from', offset, 'give positions as positions() gave them: offsets from 0 on')
  }
}

/** null is what undefined is: the default. */
function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null
}

function checkChoice(name: string, value: unknown, choices: readonly unknown[]): void {
  if (!isGiven(value) || choices.includes(value)) return
  throw invalid(name, value, `give one of ${choices.join(', ')}`)
}

function checkDelay(name: string, value: number | undefined): void {
  if (!isGiven(value) || (typeof value === 'number' && value >= 0)) return
  throw invalid(name, value, 'give a number of milliseconds, from 0 on')
}

function invalid(name: string, value: unknown, whatToGive: string): StreamError {
  const message = `${name}: ${wordsOf(value)} cannot be used; ${whatToGive}`
  return new StreamError('CONFIG_INVALID', message, { target: name })
}

function wordsOf(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 100))
  if (value instanceof Date) return 'an invalid Date'
  return typeof value === 'object' && value !== null ? 'an object' : String(value)
}
