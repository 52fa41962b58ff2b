/**
 * Screens on ink. A bundle of its own (build/build.mjs), which only commands
 * with a screen load.
 */
import { Box, render, Text, useInput, useWindowSize } from 'ink'
import { createElement as h, type ReactElement, useSyncExternalStore } from 'react'
import type { Screen, ScreenModel, ScreenTable } from '../ports/screen.ts'

/** What is drawn, for React to follow. */
class ModelStore {
  #model: ScreenModel = { head: '', tables: [], foot: '' }
  readonly #listeners = new Set<() => void>()

  readonly read = (): ScreenModel => this.#model

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  set(model: ScreenModel): void {
    this.#model = model
    for (const listener of this.#listeners) listener()
  }
}

interface PageProps {
  readonly store: ModelStore
  readonly hasColor: boolean
  readonly onQuit: () => void
}

export function openScreen(options: { readonly color: boolean; onQuit(): void }): Screen {
  const store = new ModelStore()
  const props: PageProps = { store, hasColor: options.color, onQuit: () => options.onQuit() }
  const app = render(h(Page, props), { exitOnCtrlC: false, patchConsole: false })
  return {
    draw: (model) => store.set(model),
    close: async () => {
      app.unmount()
      await app.waitUntilExit()
    },
  }
}

function Page({ store, hasColor, onQuit }: PageProps): ReactElement {
  const model = useSyncExternalStore(store.subscribe, store.read)
  const { columns, rows } = useWindowSize()
  useInput((input, key) => {
    if (input === 'q' || key.escape || (key.ctrl && input === 'c')) onQuit()
  })
  return h(
    Box,
    { flexDirection: 'column', width: columns },
    h(Text, { bold: hasColor, wrap: 'truncate-end' }, model.head),
    ...shareHeight(model.tables, rows - 3).map((table) =>
      h(Table, { key: table.title, table, hasColor }),
    ),
    h(Text, { dimColor: hasColor, wrap: 'truncate-end' }, model.foot),
  )
}

function Table({ table, hasColor }: { table: ScreenTable; hasColor: boolean }): ReactElement {
  const widths = table.columns.map((title, index) =>
    Math.max(title.length, ...table.rows.map((row) => row[index]?.length ?? 0)),
  )
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, index) => {
        const width = widths[index] ?? 0
        return table.right.has(index) ? cell.padStart(width) : cell.padEnd(width)
      })
      .join('  ')
      .trimEnd()
  return h(
    Box,
    { flexDirection: 'column', marginTop: 1 },
    h(Text, { bold: hasColor, wrap: 'truncate-end' }, line(table.columns)),
    ...table.rows.map((row) => h(Text, { key: row[0], wrap: 'truncate-end' }, line(row))),
  )
}

/** The window's height is shared: small tables are whole, the others are cut alike. */
function shareHeight(tables: readonly ScreenTable[], height: number): ScreenTable[] {
  const open = tables.filter(({ rows }) => rows.length > 0)
  let left = height - 2 * open.length
  const fitted = new Map<ScreenTable, number>()
  for (const [index, table] of [...open].sort((a, b) => a.rows.length - b.rows.length).entries()) {
    const share = Math.max(1, Math.floor(left / (open.length - index)))
    const count = Math.min(table.rows.length, share)
    fitted.set(table, count)
    left -= count
  }
  return open.map((table) => ({ ...table, rows: table.rows.slice(0, fitted.get(table)) }))
}
