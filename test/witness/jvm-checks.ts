/** Named checks: each runs, says in a few words what it saw, and becomes a row of the table. */
export interface CheckResult {
  readonly group: string
  readonly name: string
  /** What was seen; of a failed check the reason. */
  readonly seen: string
  readonly isOk: boolean
}

const SEEN_MAX = 300
const scratch = /\S*\/stream-test-\w+\//g

export class Checks {
  readonly results: CheckResult[] = []
  readonly #group: string

  constructor(group: string, results: CheckResult[] = []) {
    this.#group = group
    this.results = results
  }

  /** @param run  throws when the check fails. @returns whether it passed */
  async check(name: string, run: () => string | Promise<string>): Promise<boolean> {
    let seen: string
    let isOk = true
    try {
      seen = await run()
    } catch (error) {
      isOk = false
      const message = error instanceof Error ? error.message : String(error)
      seen = message.trim()
      process.stderr.write(`${this.#group}: ${name}: FAILED\n${message.slice(0, 6000)}\n`)
    }
    // The table is kept: it must not name places of one machine.
    const line = seen.replaceAll(scratch, '').replace(/\s+/g, ' ')
    this.results.push({ group: this.#group, name, seen: line.slice(0, SEEN_MAX), isOk })
    if (isOk) process.stderr.write(`${this.#group}: ${name}: ok, ${line.slice(0, 120)}\n`)
    return isOk
  }
}

/** A Markdown table, its columns aligned for the eye. */
export function resultTable(results: readonly CheckResult[]): string {
  const rows = [
    ['group', 'check', 'result', 'seen'],
    ...results.map((each) => [
      each.group,
      each.name,
      each.isOk ? 'ok' : 'FAILED',
      each.seen.replaceAll('|', '\\|'),
    ]),
  ]
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const lines = rows.map(
    (row) => `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`,
  )
  lines.splice(1, 0, `|${[...widths, 4].map((width) => '-'.repeat(width + 2)).join('|')}|`)
  return `${lines.join('\n')}\n`
}

/** The first difference of two lists of lines, in words; throws when there is one. */
export function assertSameLines(
  ours: readonly string[],
  theirs: readonly string[],
  what: string,
): void {
  const count = Math.max(ours.length, theirs.length)
  for (let index = 0; index < count; index++) {
    if (ours[index] !== theirs[index])
      throw new Error(
        `${what}: ${ours.length} here, ${theirs.length} there; first difference at ${index}:\n  here:  ${ours[index]?.slice(0, 500)}\n  there: ${theirs[index]?.slice(0, 500)}`,
      )
  }
}

export function assertThat(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(message)
}
