/**
 * Rows of commands that print facts rather than records (commands.md, section 5): tables for people, TSV and JSON lines
 * for programs, all from the same cells.
 *
 * Invariants: JSON names are the column names in lower case; TSV escapes tab, newline and backslash, and shows what is
 * absent as `-`; a row is printed whole or not at all.
 */

import { visibleText } from './record-writer.ts'

export type Cell = string | number | boolean | null | readonly (string | number)[]

export interface RowShape {
  /** The `kind` of the JSON objects: `topic`, `partition`. */
  readonly kind: string
  /** Upper case, in order. */
  readonly columns: readonly string[]
}

export type RowForm = 'table' | 'wide' | 'tsv' | 'json'

export type Row = readonly Cell[]

/** One line of TSV, with its newline. */
export function tsvLine(cells: Row): string {
  return `${cells.map((cell) => escapeTsv(cellText(cell))).join('\t')}\n`
}

/** `{"v":1,"kind":…}` with the columns' names in lower case, and its newline. */
export function jsonLine(shape: RowShape, cells: Row): string {
  const object: Record<string, unknown> = { v: 1, kind: shape.kind }
  for (const [index, column] of shape.columns.entries()) {
    object[column.toLowerCase()] = cells[index] ?? null
  }
  return `${JSON.stringify(object)}\n`
}

/** What is absent is `-`; lists are joined with commas. */
export function cellText(cell: Cell | undefined): string {
  if (cell === null || cell === undefined) return '-'
  if (typeof cell === 'object') return cell.length === 0 ? '-' : cell.join(',')
  return String(cell)
}

export function escapeTsv(text: string): string {
  return /[\t\n\\]/.test(text)
    ? text.replaceAll('\\', '\\\\').replaceAll('\t', '\\t').replaceAll('\n', '\\n')
    : text
}

export interface TableOptions {
  readonly hasTitles: boolean
  /** Longer lines are cut to it; undefined: none is. */
  readonly widthMax?: number
  /** Makes a title stand out; default: as it is. */
  readonly paintTitle?: (text: string) => string
  /** Columns aligned to the right; default: those of numbers. */
  readonly right?: ReadonlySet<number>
}

/** Aligned columns; numbers to the right. */
export function tableLines(shape: RowShape, rows: readonly Row[], options: TableOptions): string[] {
  const texts = rows.map((row) => row.map((cell) => visibleText(cellText(cell))))
  const isNumeric = shape.columns.map(
    (_, column) =>
      options.right?.has(column) ??
      rows.every((row) => typeof row[column] === 'number' || row[column] === null),
  )
  const widths = shape.columns.map((title, column) =>
    Math.max(
      options.hasTitles ? title.length : 0,
      ...texts.map((row) => displayWidth(row[column] ?? '')),
    ),
  )
  const lines: string[] = []
  const line = (cells: readonly string[]): string => {
    const text = cells
      .map((cell, column) => {
        const pad = ' '.repeat(Math.max(0, (widths[column] ?? 0) - displayWidth(cell)))
        return isNumeric[column] ? pad + cell : cell + pad
      })
      .join('  ')
      .trimEnd()
    return options.widthMax === undefined ? text : cutText(text, options.widthMax)
  }
  if (options.hasTitles) {
    const titles = line(shape.columns)
    lines.push(options.paintTitle === undefined ? titles : options.paintTitle(titles))
  }
  for (const row of texts) lines.push(line(row))
  return lines
}

function displayWidth(text: string): number {
  return [...text].length
}

function cutText(text: string, widthMax: number): string {
  const characters = [...text]
  return characters.length <= widthMax
    ? text
    : `${characters.slice(0, Math.max(1, widthMax - 1)).join('')}…`
}
