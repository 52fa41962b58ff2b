/** Prints rows in the form that was asked for: a table on a terminal, else TSV, or JSON lines. All is written before it returns. */

import type { ByteOutput } from '../src/ports/stdio.ts'
import {
  jsonLine,
  type Row,
  type RowForm,
  type RowShape,
  tableLines,
  tsvLine,
} from '../src/text/rows.ts'
import type { CommandDeps } from './deps.ts'
import { BrokenPipe } from './exit-code.ts'
import type { Flags } from './flags.ts'
import type { TableDisplay } from './table-fit.ts'

export function rowForm(deps: CommandDeps, flags: Flags): RowForm {
  const last = flags.either('json', 'output')
  if (last === true) return 'json'
  const form = flags.choice('output', ['auto', 'table', 'wide', 'tsv', 'json'] as const) ?? 'auto'
  if (form !== 'auto') return form
  return deps.host.isTerminal('output') ? 'table' : 'tsv'
}

/** @throws BrokenPipe; StreamError OUTPUT_FAILED */
export async function printRows(
  deps: CommandDeps,
  flags: Flags,
  shape: RowShape,
  rows: readonly Row[],
  display: TableDisplay = {},
): Promise<void> {
  const titles = flags.either('titles', 'no-titles')
  const form = rowForm(deps, flags)
  switch (form) {
    case 'json':
      await printText(deps.stdio.output, rows.map((row) => jsonLine(shape, row)).join(''))
      return
    case 'tsv': {
      const head = titles === true ? tsvLine(shape.columns) : ''
      await printText(deps.stdio.output, head + rows.map(tsvLine).join(''))
      return
    }
    case 'table':
    case 'wide': {
      const lines = await tableText(deps, shape, rows, {
        hasTitles: titles !== false && rows.length > 0,
        display: form === 'table' ? display : undefined,
        stream: 'output',
        paintTitle: await titlePaint(deps, flags),
      })
      await printText(deps.stdio.output, lines.map((line) => `${line}\n`).join(''))
    }
  }
}

/** The plan of what is about to be destroyed or moved, on standard error, for whoever is asked about it. */
export async function printPlan(
  deps: CommandDeps,
  shape: RowShape,
  rows: readonly Row[],
  display: TableDisplay = {},
): Promise<void> {
  const shown = rows.slice(0, PLAN_ROWS_MAX)
  const lines = await tableText(deps, shape, shown, { hasTitles: true, display, stream: 'error' })
  const rest = rows.length - shown.length
  if (rest > 0) lines.push(`… and ${rest} more`)
  deps.console.print(lines.map((line) => `${line}\n`).join(''))
}

const PLAN_ROWS_MAX = 50

async function tableText(
  deps: CommandDeps,
  shape: RowShape,
  rows: readonly Row[],
  options: {
    readonly hasTitles: boolean
    /** undefined: as it is. */
    readonly display: TableDisplay | undefined
    readonly stream: 'output' | 'error'
    readonly paintTitle?: (text: string) => string
  },
): Promise<string[]> {
  const { hasTitles, display, stream, paintTitle = (text: string) => text } = options
  if (display === undefined) return tableLines(shape, rows, { hasTitles, paintTitle })
  const columns = deps.host.columns(stream)
  const { fitTable } = await import('./table-fit.ts')
  const fitted = fitTable(shape, rows, { display, hasTitles, widthMax: columns })
  return tableLines(fitted.shape, fitted.rows, {
    hasTitles,
    paintTitle,
    right: fitted.right,
    ...(columns === undefined ? {} : { widthMax: columns }),
  })
}

/** @throws BrokenPipe; StreamError OUTPUT_FAILED */
export async function printText(output: ByteOutput, text: string): Promise<void> {
  if (text === '') return
  if ((await output.write(Buffer.from(text))) === 'broken') throw new BrokenPipe()
}

/** Whether standard output is coloured: on a terminal, unless the user or the terminal says no. */
export function hasColor(deps: CommandDeps, flags: Flags): boolean {
  const when = flags.text('color') ?? 'auto'
  if (when !== 'auto') return when === 'always'
  const { environment } = deps.host
  const noColor = environment['NO_COLOR']
  if (noColor !== undefined && noColor !== '') return false
  return environment['TERM'] !== 'dumb' && deps.host.isTerminal('output')
}

async function titlePaint(deps: CommandDeps, flags: Flags): Promise<(text: string) => string> {
  if (!hasColor(deps, flags)) return (text) => text
  const { Chalk } = await import('chalk')
  return new Chalk({ level: 1 }).bold
}
