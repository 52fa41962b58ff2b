/**
 * What a round must have kept: the history of the clients against what is there in the end (test/sim/history.ts), what readers saw
 * while it went on, transactions as wholes, and the logs of all replicas, byte for byte by offset, once the daemons are stopped.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type FoundRecord, judge } from '../sim/history.ts'
import type { ClientHistory } from './client-events.ts'
import type { HostsCluster } from './hosts-cluster.ts'

const DETAILS_MAX = 20

export interface Findings {
  readonly anomalies: readonly string[]
  /** Records that were found in the end. */
  readonly found: number
}

/** All records of a topic, as a client of that door reads them to the end. */
export async function readAll(
  cluster: HostsCluster,
  topic: string,
  door: 'tcp' | 'kafka',
): Promise<FoundRecord[]> {
  const words = `stream --broker ${cluster.addresses(door)} cat ${topic} -F '%p %o %v\\n'`
  const text = await cluster.ok(words, 300_000)
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [partition, offset, value = ''] = line.split(' ')
      return { topic, partition: Number(partition), offset: Number(offset), value }
    })
    .sort((left, right) => left.partition - right.partition)
}

/** The plain topic: nothing acknowledged lost, moved, altered, doubled; order kept; every reader saw what is there. */
export function judgeRecords(
  history: ClientHistory,
  topic: string,
  found: readonly FoundRecord[],
  readers: readonly string[],
): string[] {
  const sent = [...history.records(topic)]
  const anomalies = judge({ sent, found }).map(({ kind, detail }) => `${kind}: ${detail}`)
  for (const { value, acknowledged } of sent) {
    // Producers that were told nothing at all to the end of a calm cluster, and did not fail either.
    if (acknowledged === undefined && !failed(history, value))
      anomalies.push(`not delivered: ${value}`)
  }
  const valueAt = new Map(
    found.map(({ partition, offset, value }) => [`${partition}@${offset}`, value]),
  )
  for (const reader of readers) {
    const rows = history.read.get(reader) ?? new Map<string, string>()
    for (const [place, value] of rows) {
      const now = valueAt.get(place)
      if (now !== value)
        anomalies.push(`undone read: ${reader} saw ${value} at ${place}, in the end ${now}`)
    }
    for (const place of valueAt.keys()) {
      if (!rows.has(place)) anomalies.push(`unseen: ${reader} was never given ${place}`)
    }
  }
  return [...anomalies, ...history.contradictions.map((text) => `contradiction: ${text}`)]
}

function failed(history: ClientHistory, value: string): boolean {
  const producer = value.slice(0, value.lastIndexOf('-'))
  return history.errors.some((text) => text.startsWith(`${producer} `))
}

/** Each transaction wrote one value to every partition: committed ones are there as wholes, aborted ones not at all. */
export function judgeTransactions(
  history: ClientHistory,
  found: readonly FoundRecord[],
  partitions: number,
): string[] {
  const anomalies: string[] = []
  const places = new Map<string, Set<number>>()
  const lastNumber = new Map<string, number>()
  for (const { partition, value, offset } of found) {
    const known = places.get(value) ?? new Set()
    if (known.has(partition)) anomalies.push(`duplicate: ${value} in partition ${partition}`)
    places.set(value, known.add(partition))
    const cut = value.lastIndexOf('-')
    const order = `${partition}/${value.slice(0, cut)}`
    const number = Number(value.slice(cut + 1))
    if (number < (lastNumber.get(order) ?? 0))
      anomalies.push(`reordered: ${value} at ${partition}@${offset}`)
    lastNumber.set(order, number)
  }
  const outcomes = new Map(
    history.transactions.map((row) => [`${row.producer}-${row.number}`, row.outcome]),
  )
  for (const [value, outcome] of outcomes) {
    const count = places.get(value)?.size ?? 0
    if (outcome === 'committed' && count < partitions)
      anomalies.push(`lost-write: ${value} committed, in ${count} of ${partitions} partitions`)
    if (outcome === 'aborted' && count > 0) anomalies.push(`aborted read: ${value}`)
  }
  for (const [value, known] of places) {
    if (known.size < partitions)
      anomalies.push(`torn transaction: ${value} in ${known.size} of ${partitions} partitions`)
    if (!outcomes.has(value)) anomalies.push(`altered: ${value} was never sent`)
  }
  return anomalies
}

/**
 * The logs of stopped daemons: of every partition all replicas have the same bytes from the start to the end. Segments may be cut
 * at other places. Of compacted topics, which every replica cleans for itself, the batches that two replicas both have.
 */
export function compareReplicas(cluster: HostsCluster): { anomalies: string[]; bytes: number } {
  const anomalies: string[] = []
  let bytes = 0
  const directories = cluster.daemons.map(({ directory }) => directory)
  const names = new Set(directories.flatMap((directory) => partitionsOf(directory)))
  for (const name of names) {
    const logs = cluster.daemons.map(({ nodeId, directory }) => ({
      nodeId,
      log: readLog(join(directory, name)),
    }))
    const [first, ...others] = logs.filter(({ log }) => log !== undefined)
    if (first?.log === undefined) continue
    bytes += first.log.length
    for (const other of others) {
      if (other.log === undefined || other.log.equals(first.log)) continue
      const detail = name.startsWith('__')
        ? differentBatch(first.log, other.log)
        : firstDifference(first.log, other.log)
      if (detail !== undefined)
        anomalies.push(
          `divergence: ${name} of daemon ${first.nodeId} and ${other.nodeId}: ${detail}`,
        )
    }
  }
  return { anomalies, bytes }
}

function partitionsOf(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && /-\d+$/.test(entry.name))
    .map(({ name }) => name)
}

function readLog(directory: string): Buffer | undefined {
  if (!existsSync(directory)) return undefined
  const segments = readdirSync(directory).filter((name) => /^\d{20}\.log$/.test(name))
  return Buffer.concat(segments.sort().map((name) => readFileSync(join(directory, name))))
}

function firstDifference(one: Buffer, other: Buffer): string {
  let at = 0
  while (at < one.length && at < other.length && one[at] === other[at]) at++
  const [left, right] = [batches(one), batches(other)].map((rows) => rows.at(-1)?.baseOffset)
  return `byte ${at}, sizes ${one.length} and ${other.length}, last batches at ${left} and ${right}`
}

/** Of batches that both have at an offset: the first that is not the same. */
function differentBatch(one: Buffer, other: Buffer): string | undefined {
  const known = new Map(batches(one).map((row) => [row.baseOffset, row.bytes]))
  for (const { baseOffset, bytes } of batches(other)) {
    const same = known.get(baseOffset)
    // A cleaned batch has lost records; then it is shorter here or there.
    if (same !== undefined && same.length === bytes.length && !same.equals(bytes))
      return `the batches at offset ${baseOffset}`
  }
  return undefined
}

function batches(log: Buffer): { readonly baseOffset: number; readonly bytes: Buffer }[] {
  const rows: { readonly baseOffset: number; readonly bytes: Buffer }[] = []
  for (let at = 0; at + 12 <= log.length; ) {
    const end = at + 12 + log.readInt32BE(at + 8)
    rows.push({ baseOffset: Number(log.readBigInt64BE(at)), bytes: log.subarray(at, end) })
    at = end
  }
  return rows
}

/** `stream fsck` of every data directory: what it calls more than torn or a note. */
export async function checkDirectories(cluster: HostsCluster): Promise<string[]> {
  const findings: string[] = []
  for (const { nodeId, directory } of cluster.daemons) {
    const { status, stdout, stderr } = await cluster.shell(`stream fsck ${directory} --json`)
    if (status !== 0)
      findings.push(`fsck of daemon ${nodeId}: exit ${status} ${stdout.slice(0, 500)}${stderr}`)
  }
  return findings
}

/** So many of each kind, and how many more there were. */
export function shorten(anomalies: readonly string[]): string[] {
  const rest = anomalies.length - DETAILS_MAX
  return rest <= 0 ? [...anomalies] : [...anomalies.slice(0, DETAILS_MAX), `… and ${rest} more`]
}
