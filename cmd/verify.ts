/** `stream verify`: whether two topics, or a topic and a file, hold the same records (commands.md, section 5). */

import { UsageError } from '../src/base/errors.ts'
import type { ByteInput } from '../src/ports/stdio.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import { type Broker, openBroker } from './broker.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { flagsForBroker } from './other-broker.ts'
import { readPlan } from './read-options.ts'
import { printRows } from './row-output.ts'
import { compareStreams, type Difference, tellDifference } from './verify-compare.ts'
import { compareMultisets } from './verify-multiset.ts'
import type { Comparison } from './verify-record.ts'
import { openFileSide, openTopicSide, type VerifySide } from './verify-side.ts'

const shape: RowShape = { kind: 'comparison', columns: ['PARTITION', 'A', 'B', 'EQUAL'] }

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'verify',
  summary: 'Compare the records of two topics, or of a topic and a file',
  description: [
    'Compares key, value, headers and timestamp of each record, partition by partition, up to the ends as they are at the start. A and B are TOPIC, ADDRESS/TOPIC, @CONTEXT/TOPIC, file:PATH with envelopes as cat --json prints them, or - for envelopes on standard input.',
    'Prints how many records there are and how many are equal; the first difference as two envelopes on standard error, and exit 1.',
  ],
  operands: [{ name: 'A' }, { name: 'B' }],
  options: [
    { long: 'from', argument: 'POS', help: 'where to start in topics: start, end, N, +N, -N, a TIME, or P=POS,…' },
    { long: 'until', argument: 'POS', help: 'where to stop in topics, exclusive; at their ends at the latest' },
    { long: 'any-order', help: 'as multisets, whatever the order and the partition' },
    { long: 'offsets', help: 'offsets must be equal too' },
    { long: 'ignore', argument: 'LIST', help: 'what may differ: key, ts, headers' },
    { long: 'uncommitted', help: 'records of open and aborted transactions too' },
    ...rowOptions,
  ],
  examples: [
    { line: 'stream verify orders kafka://east:9092/orders' },
    { line: 'stream cat orders --json > o.ndjson; stream verify orders file:o.ndjson --offsets' },
    { line: 'stream verify orders orders.v2 --any-order --ignore ts' },
  ],
  columns: shape.columns,
  exits: [
    [1, 'they differ'],
    [3, 'no such topic or file'],
    [5, 'a line of a file is no envelope'],
  ],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags, operands } = args
  const [nameA, nameB, ...more] = operands
  if (nameA === undefined || nameB === undefined || more.length > 0) {
    throw new UsageError('two things to compare are needed: A and B', 'try: stream verify --help')
  }
  if (nameA === '-' && nameB === '-') throw new UsageError('only one of A and B can be -')
  const { isEqual } = await compareSides(deps, args, nameA, nameB, (compared) =>
    printRows(deps, flags, shape, compared),
  )
  return isEqual ? 0 : 1
}

/**
 * @param print  the rows, before the difference is told
 * @returns a row for each partition: PARTITION A B EQUAL
 */
export async function compareSides(
  deps: CommandDeps,
  args: CommandArgs,
  nameA: string,
  nameB: string,
  print?: (rows: readonly Row[]) => Promise<void>,
): Promise<{ readonly rows: readonly Row[]; readonly isEqual: boolean }> {
  const { flags } = args
  const what = readComparison(flags)
  const sides = new Sides(deps, args, what)
  try {
    const a = await sides.open(nameA)
    const b = await sides.open(nameB)
    const outcome = flags.has('any-order')
      ? await compareInAnyOrder(a, b, what)
      : await compareByPartition(a, b, what)
    const { rows, difference } = outcome
    await print?.(rows)
    if (difference !== undefined) tellDifference(deps, nameA, nameB, difference)
    return { rows, isEqual: difference === undefined }
  } finally {
    sides.close()
  }
}

function readComparison(flags: Flags): Comparison {
  const ignored = flags.all('ignore').flatMap((text) => text.split(','))
  for (const name of ignored) {
    if (!['key', 'ts', 'headers'].includes(name)) {
      throw new UsageError(`--ignore ${name}: must be of key, ts, headers`)
    }
  }
  return {
    key: !ignored.includes('key'),
    headers: !ignored.includes('headers'),
    timestamp: !ignored.includes('ts'),
    offset: flags.has('offsets'),
  }
}

interface Outcome {
  readonly rows: readonly Row[]
  readonly difference: Difference | undefined
}

async function compareInAnyOrder(a: VerifySide, b: VerifySide, what: Comparison): Promise<Outcome> {
  const result = await compareMultisets(a, b, what)
  const { onlyInA, onlyInB } = result
  const isEqual = onlyInA === undefined && onlyInB === undefined
  return {
    rows: [[null, result.a, result.b, result.equal]],
    difference: isEqual
      ? undefined
      : { words: 'the first that only one side has', a: onlyInA, b: onlyInB },
  }
}

async function compareByPartition(
  a: VerifySide,
  b: VerifySide,
  what: Comparison,
): Promise<Outcome> {
  const rows: Row[] = []
  let difference: Difference | undefined
  const partitions = [...new Set([...a.partitions, ...b.partitions])].sort((x, y) => x - y)
  for (const partition of partitions) {
    const result = await compareStreams(
      await a.read(partition),
      await b.read(partition),
      what,
      `partition ${partition}`,
    )
    rows.push([partition, result.countA, result.countB, result.equal])
    difference ??= result.difference
  }
  return { rows, difference }
}

/** Opens both sides, and ends what was opened for them. */
class Sides {
  readonly #deps: CommandDeps
  readonly #args: CommandArgs
  readonly #what: Comparison
  readonly #brokers = new Map<string, Promise<Broker>>()
  readonly #spools: string[] = []

  constructor(deps: CommandDeps, args: CommandArgs, what: Comparison) {
    this.#deps = deps
    this.#args = args
    this.#what = what
  }

  async open(name: string): Promise<VerifySide> {
    if (name === '-') return this.#openFile(await this.#spoolInput(), '-')
    if (name.startsWith('file:')) return this.#openFile(name.slice('file:'.length), name)
    const { place, topic } = splitSide(name)
    const plan = readPlan(
      this.#deps,
      { flags: this.#args.flags, operands: [topic] },
      { command: 'verify', follows: false },
    )
    if (plan.until === undefined) throw new UsageError('--until must not be in the future')
    return openTopicSide(this.#deps, await this.#broker(place), plan, topic)
  }

  close(): void {
    for (const broker of this.#brokers.values()) {
      broker.then(
        ({ cluster }) => cluster.close(),
        () => undefined,
      )
    }
    for (const path of this.#spools) this.#deps.host.removeFile(path)
  }

  /** Where both sides are on one broker, one contact is enough. */
  #broker(place: string): Promise<Broker> {
    let broker = this.#brokers.get(place)
    if (broker === undefined) {
      broker = openBroker(this.#deps, {
        ...this.#args,
        flags: flagsForBroker(this.#args.flags, place),
      })
      this.#brokers.set(place, broker)
    }
    return broker
  }

  #openFile(path: string, name: string): Promise<VerifySide> {
    const { stdio } = this.#deps
    return openFileSide({
      name,
      needsPartition: !this.#args.flags.has('any-order'),
      needsOffset: this.#what.offset,
      open: async (): Promise<ByteInput> => {
        const packed = await import('./compressed-input.ts')
        const input = stdio.openInput(path)
        return packed.isCompressedName(path) ? new packed.CompressedInput(input) : input
      },
    })
  }

  /** Standard input can be read once only, and is read several times: through a file of its own. */
  async #spoolInput(): Promise<string> {
    const { host, stdio, random } = this.#deps
    const name = Buffer.from(random.bytes(8)).toString('hex')
    const path = `${host.temporaryDirectory}/stream-verify-${host.processId}-${name}`
    host.writeFile(path, new Uint8Array(0), 0o600)
    this.#spools.push(path)
    const output = stdio.openOutput(path, { append: true })
    const input = stdio.openInput('-')
    if (input.kind === 'terminal') {
      this.#deps.console.warn('reading envelopes from the terminal; end with Ctrl-D')
    }
    try {
      await copyAll(input, output)
    } finally {
      output.close()
    }
    return path
  }
}

function copyAll(
  input: ByteInput,
  output: ReturnType<CommandDeps['stdio']['openOutput']>,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let writing = Promise.resolve()
    input.start({
      onBytes: (chunk, start, end) => {
        input.pause()
        const bytes = Uint8Array.from(chunk.subarray(start, end))
        writing = writing.then(async () => {
          await output.write(bytes)
          input.resume()
        })
        writing.catch(reject)
      },
      onEnd: (error) => {
        if (error !== undefined) reject(error)
        else writing.then(resolve, reject)
      },
    })
  })
}

/** `@CONTEXT/TOPIC`, `ADDRESS/TOPIC`, or a topic of the broker in force, whose place is ''. */
function splitSide(name: string): { readonly place: string; readonly topic: string } {
  const isElsewhere = name.startsWith('@') || /^(ipc|tcp|kafka):\/\//.test(name)
  if (!isElsewhere) {
    if (name === '' || name.includes('/')) {
      throw new UsageError(`${name}: not a topic, ADDRESS/TOPIC, @CONTEXT/TOPIC, file:PATH or -`)
    }
    return { place: '', topic: name }
  }
  const slash = name.lastIndexOf('/')
  const place = name.slice(0, slash)
  const topic = name.slice(slash + 1)
  const isWhole = place !== '' && topic !== '' && !place.endsWith('/')
  if (!isWhole) throw new UsageError(`${name}: /TOPIC is missing after the broker`)
  return { place, topic }
}
