/** The tables of a run, from figures alone: medians, ratios of the same round, and whether the targets hold. */
import { median, medianRatio } from '../harness.ts'
import type { Label, LatencyContender } from './contender.ts'

export interface ThroughputRow extends Label {
  readonly records: number
  /** Records a second, one of each round. */
  readonly rates: readonly number[]
  readonly must?: number
  readonly isOurs: boolean
  readonly failure?: string
}

export interface LatencyRow extends Label {
  readonly p50: readonly number[]
  readonly p99: readonly number[]
  readonly means: LatencyContender['means']
  /** Ours at the same durability and by the same means must be below it. */
  readonly judged: boolean
  readonly isOurs: boolean
  readonly failure?: string
}

export interface StartUpRow {
  readonly name: string
  readonly ms: readonly number[]
  readonly isOurs: boolean
  readonly failure?: string
}

export interface MemoryRow {
  readonly name: string
  readonly megabytes: number
  readonly failure?: string
}

export interface Section {
  readonly title: string
  readonly head: readonly string[]
  readonly rows: readonly (readonly string[])[]
}

/** Ours in the ratio is the durable one, whatever the peer's durability. */
export function throughputSection(
  title: string,
  lineBytes: number,
  rows: readonly ThroughputRow[],
): Section {
  const ours = rows.find(
    (row) => row.isOurs && row.durability === 'durable' && row.rates.length > 0,
  )
  return {
    title,
    head: ['contender', 'durability', 'lines', 'M lines/s', 'MB/s', 'ours is', 'must', 'holds'],
    rows: rows.map((row) => {
      if (row.failure !== undefined || row.rates.length === 0)
        return [
          row.name,
          row.flush,
          row.failure ?? 'not measured',
          '',
          '',
          '',
          mustText(row.must),
          '',
        ]
      const rate = median(row.rates)
      const ratio =
        row.isOurs || ours === undefined ? undefined : medianRatio(ours.rates, row.rates)
      return [
        row.name,
        row.flush,
        thousands(row.records),
        significant(rate / 1e6),
        significant((rate * lineBytes) / 1e6),
        ratio === undefined ? '' : `${significant(ratio)}x`,
        mustText(row.must),
        ratio === undefined || row.must === undefined ? '' : mark(ratio >= row.must),
      ]
    }),
  }
}

/** Ours in the comparison is the one of the same durability; what is compared is the median p99. */
export function latencySection(title: string, rows: readonly LatencyRow[]): Section {
  const ours = ({ durability, means }: LatencyRow) =>
    rows.find(
      (row) =>
        row.isOurs && row.durability === durability && row.means === means && row.p99.length > 0,
    )
  return {
    title,
    head: ['contender', 'durability', 'p50 ms', 'p99 ms', "ours' p99", 'must', 'holds'],
    rows: rows.map((row) => {
      const must = row.judged ? 'below' : ''
      if (row.failure !== undefined || row.p99.length === 0)
        return [row.name, row.flush, row.failure ?? 'not measured', '', '', must, '']
      const same = row.isOurs ? undefined : ours(row)
      const p99 = median(row.p99)
      return [
        row.name,
        row.flush,
        median(row.p50).toFixed(2),
        p99.toFixed(2),
        same === undefined
          ? ''
          : `${median(same.p99).toFixed(2)} (${same.durability}, ${same.means})`,
        must,
        same === undefined || !row.judged ? '' : mark(median(same.p99) < p99),
      ]
    }),
  }
}

export function startUpSection(title: string, rows: readonly StartUpRow[]): Section {
  const ours = rows.find((row) => row.isOurs && row.ms.length > 0)
  return {
    title,
    head: ['command', 'ms', 'ours takes'],
    rows: rows.map((row) => {
      if (row.failure !== undefined || row.ms.length === 0)
        return [row.name, row.failure ?? 'not measured', '']
      const ratio = row.isOurs || ours === undefined ? undefined : medianRatio(ours.ms, row.ms)
      return [
        row.name,
        median(row.ms).toFixed(1),
        ratio === undefined ? '' : `${significant(ratio)}x`,
      ]
    }),
  }
}

export function memorySection(title: string, rows: readonly MemoryRow[]): Section {
  return {
    title,
    head: ['process', 'MB'],
    rows: rows.map((row) => [row.name, row.failure ?? row.megabytes.toFixed(0)]),
  }
}

export function markdown(sections: readonly Section[]): string {
  return sections
    .map(({ title, head, rows }) =>
      [
        `### ${title}`,
        '',
        line(head),
        line(head.map((name) => (isFigure(name) ? '--:' : '---'))),
        ...rows.map(line),
      ].join('\n'),
    )
    .join('\n\n')
}

function line(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`
}

function isFigure(head: string): boolean {
  return /^(lines|M lines|MB|ms|p\d|ours)/.test(head)
}

function mustText(must: number | undefined): string {
  return must === undefined ? '' : `≥ ${must}x`
}

function mark(holds: boolean): string {
  return holds ? 'yes' : '**no**'
}

/** Three digits that count: 0.0123, 1.23, 12.3, 1234. */
export function significant(value: number): string {
  if (value >= 100) return value.toFixed(0)
  return Number(value.toPrecision(3)).toString()
}

export function thousands(count: number): string {
  return count.toString().replace(/\B(?=(\d{3})+$)/g, ',')
}
