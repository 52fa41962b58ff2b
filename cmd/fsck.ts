/** `stream fsck`: checks data directories through the port Offline, and repairs them (commands.md, section 5). */

import { isStreamError, UsageError } from '../src/base/errors.ts'
import type { CheckSummary, FindingState, OfflineFinding } from '../src/ports/offline.ts'
import { sleep } from '../src/ports/time.ts'
import { visibleText } from '../src/text/record-writer.ts'
import { cellText, type Row, type RowShape } from '../src/text/rows.ts'
import { formatSize } from '../src/text/units.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { joinExitCodes } from './exit-code.ts'
import { type CommandSpec, changeOptions, rowOptions, yesOption } from './option-table.ts'
import { confirm } from './prompt.ts'
import { printRows } from './row-output.ts'

const shape: RowShape = {
  kind: 'finding',
  columns: ['FILE', 'OFFSET', 'CHECK', 'STATE', 'DETAIL'],
}

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'fsck',
  summary: 'Check a data directory, and repair it',
  description: [
    'Checks every batch of every partition (checksum, offsets, leader epochs), the indexes, leader epoch files, producer snapshots, durable marks and checkpoints, and looks for files that are no part of a data directory. A row for each finding. Nothing is changed, and no daemon is needed; while one runs, what it is writing may look torn.',
    'STATE is damaged (records are lost), bad or missing (the log can give it back), stray (nobody put it there), torn (the tail that a crash leaves behind what was durable; the next start cuts it) or note. Only torn and note: exit 0.',
    '--repair rebuilds what the log can rebuild, and moves damaged ranges and stray files to the directory set-aside in DIR: the rest of the partition is then read without a stop, at the same offsets. STATE is then repaired, set-aside (records were lost with it), gone (offsets that are missing for good) or left (only a person can mend it).',
  ],
  operands: [{ name: 'DIR', isRepeatable: true }],
  options: [
    { long: 'repair', help: 'mend what can be mended; refused while a daemon has the directory' },
    yesOption,
    ...changeOptions,
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [
    { line: 'stream fsck ~/.local/share/stream --json' },
    { line: 'stream daemon stop && stream fsck ~/.local/share/stream --repair -y' },
  ],
  exits: [
    [2, 'no data directory; or --repair was refused for want of -y'],
    [5, 'something is wrong; with --repair: records are lost, or something is left'],
    [8, '--repair while a daemon has the directory'],
  ],
}

const LOCK_MS_MAX = 2000
const LOCK_AGAIN_MS = 100

const harmless: ReadonlySet<FindingState> = new Set(['torn', 'note', 'repaired'])

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags, operands } = args
  if (operands.length === 0) throw new UsageError('DIR is missing', 'try: stream fsck --help')
  const isRepair = flags.has('repair')
  if (flags.has('dry-run') && !isRepair) throw new UsageError('--dry-run is of --repair')
  const codes: number[] = []
  const rows: Row[] = []
  for (const path of operands) {
    try {
      const found = await checkOne(deps, path)
      const mends = isRepair && found.some(({ state }) => !harmless.has(state))
      const told = mends ? await repairOne(deps, args, path, found) : found
      rows.push(...told.map(rowOf))
      if (told.some(({ state }) => !harmless.has(state))) codes.push(5)
    } catch (error) {
      if (!isStreamError(error)) throw error
      codes.push(error.exit)
      deps.console.error(error, path)
    }
  }
  await printRows(deps, flags, shape, rows)
  return joinExitCodes(codes)
}

async function checkOne(deps: CommandDeps, path: string): Promise<OfflineFinding[]> {
  const findings: OfflineFinding[] = []
  const totals = await deps.openOffline().check(path, (finding) => findings.push(finding))
  if (totals.isInUse) {
    deps.console.warn(`${path}: a daemon has the directory: what it is writing may look torn`)
  }
  tellTotals(deps, path, totals, findings.length)
  return findings
}

/** @returns what became of each; the findings themselves where nothing was done */
async function repairOne(
  deps: CommandDeps,
  { flags }: CommandArgs,
  path: string,
  found: readonly OfflineFinding[],
): Promise<readonly OfflineFinding[]> {
  const wrong = found.filter(({ state }) => !harmless.has(state))
  if (flags.has('dry-run')) return found
  if (!flags.has('yes')) {
    for (const finding of wrong)
      deps.console.print(`  ${visibleText(rowOf(finding).map(cellText).join('  '))}\n`)
  }
  const agrees = await confirm(deps, flags, `repair ${wrong.length} findings in ${path}?`)
  if (!agrees) {
    deps.console.warn('nothing repaired')
    return found
  }
  return await repairPatiently(deps, path)
}

/** A daemon that was told to stop gives the directory back a moment after it has stopped answering. */
async function repairPatiently(deps: CommandDeps, path: string): Promise<OfflineFinding[]> {
  const deadlineMs = deps.time.monotonicMs() + LOCK_MS_MAX
  for (;;) {
    const mended: OfflineFinding[] = []
    try {
      await deps.openOffline().repair(path, (finding) => mended.push(finding))
      return mended
    } catch (error) {
      const isLate = deps.time.monotonicMs() >= deadlineMs
      if (isLate || !isStreamError(error, 'DIRECTORY_LOCKED')) throw error
    }
    await sleep(deps.time, LOCK_AGAIN_MS)
  }
}

function tellTotals(deps: CommandDeps, path: string, totals: CheckSummary, count: number): void {
  if (!deps.console.wantsSummary) return
  const { partitions, segments, batches, bytes } = totals
  const findings = count === 1 ? '1 finding' : `${count} findings`
  deps.console.print(
    `stream: ${path}: ${findings} in ${partitions} partitions, ${segments} segments, ${batches} batches, ${formatSize(bytes)}\n`,
  )
}

function rowOf({ file, offset, check, state, detail }: OfflineFinding): Row {
  return [file, offset, check, state, detail]
}
