/**
 * Makes a table as wide as the terminal: sizes for people, shorter titles, texts cut with `…`, and at last columns left
 * out that matter least. `-o wide` shows everything; TSV and JSON never pass through here.
 */

import { visibleText } from '../src/text/record-writer.ts'
import { type Cell, cellText, type Row, type RowShape } from '../src/text/rows.ts'
import { formatDuration, formatSize } from '../src/text/units.ts'

/** How the columns of a shape look on a terminal; all by title. */
export interface TableDisplay {
  /** Bytes, shown as `1.5 MiB`. */
  readonly sizes?: readonly string[]
  /** Milliseconds, shown as `3d4h`. */
  readonly durations?: readonly string[]
  /** Titles for narrow terminals. */
  readonly titles?: Readonly<Record<string, string>>
  /** Texts that may be cut, in that order; default: all that are no numbers, the widest first. */
  readonly shrink?: readonly string[]
  /** What may be left out, in that order. */
  readonly drop?: readonly string[]
}

export interface FittedTable {
  readonly shape: RowShape
  readonly rows: readonly Row[]
  /** Indexes of columns of numbers. */
  readonly right: ReadonlySet<number>
}

interface Column {
  readonly name: string
  title: string
  readonly isNumber: boolean
  cells: string[]
  width: number
}

const GAP = 2
/** Texts are cut so far before anything is left out, and so far at last. */
const READABLE_WIDTH = 20
const LEAST_WIDTH = 8

/** @param widthMax  in characters; undefined: as wide as it gets */
export function fitTable(
  shape: RowShape,
  rows: readonly Row[],
  options: {
    readonly display: TableDisplay
    readonly widthMax: number | undefined
    readonly hasTitles: boolean
  },
): FittedTable {
  const { display, widthMax = Number.POSITIVE_INFINITY, hasTitles } = options
  let columns = shape.columns.map((name, index) =>
    makeColumn(
      name,
      rows.map((row) => row[index]),
      display,
    ),
  )
  const measure = (): void => {
    for (const column of columns) column.width = widthOf(column, hasTitles)
  }
  const excess = (): number =>
    columns.reduce((sum, { width }) => sum + width + GAP, -GAP) - widthMax
  measure()
  if (excess() > 0) {
    for (const column of columns) column.title = display.titles?.[column.name] ?? column.title
    measure()
  }
  shrink(columns, excess, display, READABLE_WIDTH)
  for (const name of display.drop ?? []) {
    if (excess() <= 0) break
    columns = columns.filter((column) => column.name !== name)
  }
  shrink(columns, excess, display, LEAST_WIDTH)
  return {
    shape: { kind: shape.kind, columns: columns.map(({ title }) => title) },
    rows: rows.map((_, index) => columns.map(({ cells }) => cells[index] ?? '')),
    right: new Set(columns.flatMap(({ isNumber }, index) => (isNumber ? [index] : []))),
  }
}

function makeColumn(
  name: string,
  cells: readonly (Cell | undefined)[],
  display: TableDisplay,
): Column {
  const format = formatterOf(name, display)
  return {
    name,
    title: name,
    isNumber: cells.every((cell) => typeof cell === 'number' || cell === null),
    cells: cells.map((cell) =>
      typeof cell === 'number' && format !== undefined ? format(cell) : visibleText(cellText(cell)),
    ),
    width: 0,
  }
}

function formatterOf(name: string, display: TableDisplay): ((value: number) => string) | undefined {
  if (display.sizes?.includes(name) === true) return formatSize
  return display.durations?.includes(name) === true ? formatDuration : undefined
}

function widthOf({ title, cells }: Column, hasTitles: boolean): number {
  return Math.max(hasTitles ? title.length : 0, ...cells.map((cell) => [...cell].length))
}

/** Takes from the texts what is too much, but none below `least` or its title. */
function shrink(
  columns: readonly Column[],
  excess: () => number,
  display: TableDisplay,
  least: number,
): void {
  const order = display.shrink
  const candidates = columns
    .filter(({ name, isNumber }) => (order === undefined ? !isNumber : order.includes(name)))
    .sort((left, right) =>
      order === undefined
        ? right.width - left.width
        : order.indexOf(left.name) - order.indexOf(right.name),
    )
  for (const column of candidates) {
    const tooMuch = excess()
    if (tooMuch <= 0) return
    const width = Math.max(least, column.title.length, column.width - tooMuch)
    if (width >= column.width) continue
    column.cells = column.cells.map((cell) => cut(cell, width))
    column.width = width
  }
}

function cut(text: string, width: number): string {
  const characters = [...text]
  return characters.length <= width ? text : `${characters.slice(0, width - 1).join('')}…`
}
