/** `stream mirror link`: makes a link, which the daemon keeps (commands.md, section 5). */

import { UsageError } from '../src/base/errors.ts'
import { ContextsFile } from '../src/client/contexts.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import { parseRate } from '../src/text/units.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import { requireLinkName, withLinks } from './mirror-shared.ts'
import { type CommandSpec, changeOptions, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import { findContext, protectionKey, splitAddress } from './settings.ts'

const shape: RowShape = { kind: 'mirror', columns: ['NAME', 'TOPIC'] }
const CONNECT_MS = 10_000

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'mirror link',
  summary: 'Mirror topics of another broker, kept up by the daemon',
  description: [
    'The daemon follows the topics of SOURCE that match, now and later, and keeps their batches byte for byte at the same offsets, with gaps and log start. It goes on after restarts; in a cluster each partition is followed by whoever leads it.',
    'The topics are made here, and are read-only here until they are promoted. One that exists here already is not touched. --sync configs keeps their settings as they are at the source; --sync groups copies the offsets of groups that have no live members here, every few seconds, and never beyond what can be read here.',
    'SOURCE is an address or @CONTEXT, as the daemon can reach it. A ring of links is refused. To turn the link about one day (stream mirror failback) the source must be a daemon of stream that is met by ipc:// or tcp:// too. Prints the topics that match now.',
    'A source that asks for TLS or a login is named by @CONTEXT. The daemon takes certificates and secrets from the context of that name of the user that it runs as, on its own host (in a cluster: on each), which must name the same address; it reads passwords and tokens anew for each login, and keeps none.',
  ],
  operands: [{ name: 'NAME' }],
  options: [
    { long: 'source', argument: 'SOURCE', help: 'address or @CONTEXT of the broker that is mirrored' },
    { long: 'topics', argument: 'GLOB', isRepeatable: true, help: 'which topics; internal ones never' },
    { long: 'sync', argument: 'LIST', help: 'configs, groups' },
    { long: 'rate', argument: 'R', help: 'at most so much from the source: 5MiB/s or 1000/s, over all topics, for each daemon' },
    ...changeOptions.map((option) => ({ ...option, help: 'check the flags and stop' })),
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [
    { line: "stream mirror link west --source tcp://west:7100 --topics '*' --sync configs,groups" },
    { line: "stream mirror link east --source kafka://east:9092 --topics 'orders*' --rate 20MiB/s" },
  ],
  exits: [
    [4, 'the daemon did not reach the source'],
    [6, 'the source did not let the daemon in'],
    [8, 'the name is taken, a topic exists here already, or it would close a ring'],
  ],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags } = args
  const name = requireLinkName(args, spec.name)
  const topics = flags.all('topics')
  if (topics.length === 0) throw new UsageError("--topics is missing: which topics? '*' is all")
  const order = {
    name,
    ...readSource(deps, flags),
    topics,
    ...readSync(flags),
    rate: readRate(flags),
  }
  return withLinks(deps, args, async ({ links }) => {
    if (flags.has('dry-run')) return 0
    const timeoutMs = flags.durationMs('connect-timeout') ?? CONNECT_MS
    const found = await links.create(order, timeoutMs)
    await printRows(
      deps,
      flags,
      shape,
      found.map((topic): Row => [name, topic]),
    )
    return 0
  })
}

interface Source {
  readonly source: readonly string[]
  /** undefined: its addresses are all that the daemon needs. */
  readonly context?: string
}

/** What protects the way to it is the daemon's own affair: it has a context of that name too, or refuses. */
function readSource(deps: CommandDeps, flags: Flags): Source {
  const source = flags.text('source')
  if (source === undefined) {
    throw new UsageError('--source is missing: the broker that is mirrored')
  }
  if (!source.startsWith('@')) return { source: splitAddress(source, '--source') }
  const name = source.slice(1)
  const { broker, options, secrets } = findContext(ContextsFile.read(deps.host), name, '--source')
  const addresses = splitAddress(broker, `context ${name}`)
  const isProtected = secrets.size > 0 || [...options.keys()].some((key) => protectionKey.test(key))
  return isProtected ? { source: addresses, context: name } : { source: addresses }
}

function readSync(flags: Flags): { readonly syncConfigs: boolean; readonly syncGroups: boolean } {
  const parts = flags.all('sync').flatMap((text) => text.split(','))
  for (const part of parts) {
    if (part !== 'configs' && part !== 'groups') {
      throw new UsageError(`--sync ${part}: must be of configs, groups`)
    }
  }
  return { syncConfigs: parts.includes('configs'), syncGroups: parts.includes('groups') }
}

function readRate(flags: Flags) {
  const text = flags.text('rate')
  if (text === undefined) return undefined
  const rate = parseRate(text)
  if (rate === undefined) throw new UsageError(`--rate ${text}: must be like 5MiB/s or 1000/s`)
  return { kind: rate.unit, perSecond: rate.perSecond }
}
