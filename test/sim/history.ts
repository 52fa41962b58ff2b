/**
 * What a run must have kept, judged from the outside: what producers were told, against what a reader found in the end.
 * Every value is unique: producer, and its number in the order of sending.
 */

export interface SentRecord {
  readonly producer: string
  /** From 0, in the order of sending. */
  readonly ordinal: number
  readonly value: string
  /** Where the broker said it stands (without an offset where it only knows that it has it); undefined: not acknowledged. */
  readonly acknowledged:
    | { readonly topic: string; readonly partition: number; readonly offset: number | undefined }
    | undefined
}

export interface FoundRecord {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly value: string
}

export interface History {
  readonly sent: readonly SentRecord[]
  /** Per partition in the order of reading. */
  readonly found: readonly FoundRecord[]
  /** Offsets the daemon itself said are damaged: they may be missing, and only they. */
  readonly damaged?: readonly {
    readonly topic: string
    readonly partition: number
    readonly from: number
    readonly to: number
  }[]
  /** First offset that retention left, per `topic-partition`; 0 where absent. */
  readonly logStarts?: ReadonlyMap<string, number>
}

export type AnomalyKind =
  | 'lost-write'
  | 'moved-write'
  | 'duplicate'
  | 'altered'
  | 'reordered'
  | 'offsets-do-not-rise'
  | 'hole'
  | 'inconsistent-offsets'

export interface Anomaly {
  readonly kind: AnomalyKind
  readonly detail: string
}

/** Oracles: acknowledged is present, unchanged, in order, once; offsets are dense; nothing stands behind a hole. */
export function judge(history: History): Anomaly[] {
  const anomalies: Anomaly[] = []
  const add = (kind: AnomalyKind, detail: string): void => {
    anomalies.push({ kind, detail })
  }
  const sentByValue = new Map(history.sent.map((record) => [record.value, record]))
  const foundByValue = new Map<string, FoundRecord>()
  const valueAt = new Map<string, string>()
  const lastOffset = new Map<string, number>()
  const lastOrdinal = new Map<string, number>()
  const isDamaged = (topic: string, partition: number, offset: number): boolean =>
    (history.damaged ?? []).some(
      (range) =>
        range.topic === topic &&
        range.partition === partition &&
        offset >= range.from &&
        offset < range.to,
    )

  for (const record of history.found) {
    const place = `${record.topic}-${record.partition}`
    const before = lastOffset.get(place) ?? (history.logStarts?.get(place) ?? 0) - 1
    if (record.offset <= before)
      add('offsets-do-not-rise', `${place}: ${record.offset} after ${before}`)
    for (let offset = before + 1; offset < record.offset; offset++) {
      if (!isDamaged(record.topic, record.partition, offset)) add('hole', `${place}@${offset}`)
    }
    lastOffset.set(place, record.offset)
    const key = `${place}@${record.offset}`
    const other = valueAt.get(key)
    if (other !== undefined && other !== record.value)
      add('inconsistent-offsets', `${key}: ${other}, ${record.value}`)
    valueAt.set(key, record.value)

    const sent = sentByValue.get(record.value)
    if (sent === undefined) {
      add('altered', `${key}: ${JSON.stringify(record.value.slice(0, 60))} was never sent`)
      continue
    }
    const first = foundByValue.get(record.value)
    if (first !== undefined)
      add(
        'duplicate',
        `${record.value} at ${first.topic}-${first.partition}@${first.offset} and ${key}`,
      )
    foundByValue.set(record.value, record)
    const order = `${place}/${sent.producer}`
    const previous = lastOrdinal.get(order) ?? -1
    if (first === undefined && sent.ordinal < previous)
      add('reordered', `${place}: ${sent.producer} ${sent.ordinal} after ${previous}`)
    lastOrdinal.set(order, Math.max(previous, sent.ordinal))
  }

  for (const record of history.sent) {
    const place = record.acknowledged
    if (place === undefined) continue
    const start = history.logStarts?.get(`${place.topic}-${place.partition}`) ?? 0
    if (
      place.offset !== undefined &&
      (place.offset < start || isDamaged(place.topic, place.partition, place.offset))
    )
      continue
    const found = foundByValue.get(record.value)
    if (found === undefined)
      add(
        'lost-write',
        `${record.value} acknowledged at ${place.topic}-${place.partition}@${place.offset}`,
      )
    else if (
      place.offset !== undefined &&
      (found.offset !== place.offset || found.partition !== place.partition)
    )
      add(
        'moved-write',
        `${record.value} acknowledged at ${place.partition}@${place.offset}, found at ${found.partition}@${found.offset}`,
      )
  }
  return anomalies
}
