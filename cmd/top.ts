/** `stream top`: what goes on, live. */

import type { Screen, ScreenModel, ScreenTable } from '../src/ports/screen.ts'
import { visibleText } from '../src/text/record-writer.ts'
import { cellText, type Row, type RowShape } from '../src/text/rows.ts'
import { formatSize } from '../src/text/units.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { withGroups } from './groups-shared.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { hasColor, printRows, rowForm } from './row-output.ts'
import { type TopModel, TopWatch } from './top-model.ts'
import { WakeUp } from './wake-up.ts'

const shape: RowShape = {
  kind: 'top',
  columns: ['KIND', 'NAME', 'RATE', 'SPAN', 'BYTES', 'LAG', 'STATE'],
}
const EVERY_MS = 2000

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'top',
  summary: 'Watch topics, groups and brokers',
  description: [
    'A live screen on a terminal, ended by q; without one, or with -o, rows each time. RATE: of a topic the records appended a second, of a group those committed; - at the first look. SPAN: end minus start. STATE: of a group its state and members, of a topic its partitions, of a broker the partitions it leads.',
    'The most active topics and the groups furthest behind come first.',
  ],
  operands: [],
  options: [
    { long: 'every', argument: 'DUR', default: '2s', help: 'the pause' },
    { long: 'count', short: 'n', argument: 'N', help: 'stop after so many times' },
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [{ line: 'stream top' }, { line: 'stream top -n 2 --every 1s --json | jq -c .' }],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags } = args
  const everyMs = flags.durationMs('every') ?? EVERY_MS
  const countMax = flags.wholeNumber('count') ?? Number.POSITIVE_INFINITY
  const timeoutMs = flags.durationMs('timeout') ?? Number.POSITIVE_INFINITY
  const deadlineMs = deps.time.monotonicMs() + timeoutMs
  return withGroups(deps, args, async (session) => {
    let isStopped = false
    const wake = new WakeUp(deps.time)
    const stop = (): void => {
      isStopped = true
      wake.wake()
    }
    const stopListening = deps.interruption.onRaised(stop)
    const watch = new TopWatch(deps, session)
    const screen = await openScreen(deps, args, stop)
    try {
      for (let count = 1; ; count += 1) {
        const model = await watch.look()
        if (screen !== undefined) screen.draw(screenOf(model, everyMs))
        else await printRows(deps, flags, shape, rowsOf(model))
        if (count >= countMax || isStopped) return 0
        if (deps.time.monotonicMs() + everyMs > deadlineMs) return 7
        await wake.wait(everyMs)
        if (isStopped) return 0
      }
    } finally {
      await screen?.close()
      stopListening()
    }
  })
}

/** Only where both ends are a terminal: it takes keys. */
async function openScreen(
  deps: CommandDeps,
  { flags }: CommandArgs,
  onQuit: () => void,
): Promise<Screen | undefined> {
  const { host } = deps
  const isScreen = host.isTerminal('output') && host.isTerminal('input')
  if (!isScreen || flags.has('json') || flags.text('output') !== undefined) return undefined
  if (rowForm(deps, flags) !== 'table' || host.environment['TERM'] === 'dumb') return undefined
  const module = await deps.loadScreens()
  return module.openScreen({ color: hasColor(deps, flags), onQuit })
}

function rowsOf({ topics, groups, brokers }: TopModel): Row[] {
  return [
    ...topics.map((each): Row => {
      const { name, rate, span, bytes, partitions } = each
      return ['topic', name, rate, span, bytes, null, String(partitions)]
    }),
    ...groups.map((each): Row => {
      const { name, rate, lag, state, members } = each
      return ['group', name, rate, null, null, lag, `${state},${members}`]
    }),
    ...brokers.map((each): Row => {
      return ['broker', String(each.nodeId), null, null, null, null, String(each.leads)]
    }),
  ]
}

function screenOf(model: TopModel, everyMs: number): ScreenModel {
  const { topics, groups, brokers } = model
  const rates = topics.flatMap(({ rate }) => (rate === null ? [] : [rate]))
  const total = rates.length === 0 ? '-' : String(rates.reduce((sum, rate) => sum + rate, 0))
  return {
    head: `${visibleText(model.clusterId ?? 'stream')}: ${topics.length} topics, ${groups.length} groups, ${brokers.length} brokers, ${total} records/s`,
    tables: [
      tableOf('topics', ['TOPIC', 'PARTS', 'RATE/S', 'SPAN', 'BYTES'], topics, (each) => [
        visibleText(each.name),
        String(each.partitions),
        cellText(each.rate),
        cellText(each.span),
        each.bytes === null ? '-' : formatSize(each.bytes),
      ]),
      tableOf('groups', ['GROUP', 'MEMBERS', 'RATE/S', 'LAG', 'STATE'], groups, (each) => [
        visibleText(each.name),
        String(each.members),
        cellText(each.rate),
        cellText(each.lag),
        each.state,
      ]),
      tableOf('brokers', ['BROKER', 'LEADS', 'ADDRESS'], brokers, (each) => [
        String(each.nodeId),
        String(each.leads),
        visibleText(each.address),
      ]),
    ],
    foot: `every ${everyMs / 1000} s; q ends`,
  }
}

function tableOf<Item>(
  title: string,
  columns: readonly string[],
  items: readonly Item[],
  cells: (item: Item) => readonly string[],
): ScreenTable {
  const numbers = new Set(['PARTS', 'MEMBERS', 'RATE/S', 'SPAN', 'BYTES', 'LAG', 'LEADS'])
  const right = new Set(columns.flatMap((name, index) => (numbers.has(name) ? [index] : [])))
  return { title, columns, rows: items.map(cells), right }
}
