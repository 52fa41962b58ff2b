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
): Promise<void> {
  const form = rowForm(deps, flags)
  const titles = flags.either('titles', 'no-titles')
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
      const columns = deps.host.columns('output')
      const lines = tableLines(shape, rows, {
        hasTitles: titles !== false && rows.length > 0,
        paintTitle: await titlePaint(deps, flags),
        ...(form === 'table' && columns !== undefined ? { widthMax: columns } : {}),
      })
      await printText(deps.stdio.output, lines.map((line) => `${line}\n`).join(''))
    }
  }
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
