/** `stream check`: health as rows, as an exit code, and in the forms that monitoring systems take. */

import { UsageError } from '../src/base/errors.ts'
import { escapeTsv, type RowShape } from '../src/text/rows.ts'
import { openBroker } from './broker.ts'
import {
  clusterFindings,
  daemonFindings,
  type Finding,
  groupFindings,
  isUnreachable,
  type Limits,
  topicFindings,
} from './check-findings.ts'
import { askStatus, notRunning } from './daemon-shared.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows, printText } from './row-output.ts'
import { TargetFailures } from './topics-shared.ts'

const shape: RowShape = { kind: 'check', columns: ['STATE', 'CHECK', 'TARGET', 'VALUE', 'LIMIT'] }
const kinds = ['daemon', 'cluster', 'topic', 'group'] as const
type Kind = (typeof kinds)[number]

/** The convention of monitoring plugins. */
const nagiosExit = { ok: 0, warn: 1, crit: 2, unknown: 3 }

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'check',
  summary: 'Tell whether a daemon, a cluster, a topic or a group is healthy',
  description: [
    'One row for each thing looked at; exit 0 if all is well, 1 if not. Never starts a daemon. Without operands: the daemon.',
    'daemon: its state, and ranges of logs that are damaged and not served, and batches that differ from the copy of the leader. cluster: brokers, those whose disk is full or has failed (state), the controller, partitions that nobody leads, partitions with replicas out of sync, and those that so take no records with acks=all (under_min_isr). In a cluster both look at the store too (etcd): a warning while it does not answer the daemon, critical once the session of the daemon has run out, for then what it knows of the cluster may be old. topic: the same of the topic, and its SPAN. group: members, and LAG: records not read yet; and partitions that nobody answers for, or where the group has committed more than there is (behind_end), where there are any.',
    '--warn and --crit limit the SPAN of a topic, the LAG of a group, the partitions out of sync of a cluster. --inactive limits the age of the last record of a topic, or of the oldest unread record of a group; its VALUE and LIMIT are seconds.',
    'With --nagios the exit code is 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN (not reached, no such target).',
  ],
  operands: [{ name: 'KIND', isOptional: true }, { name: 'NAME', isOptional: true, isRepeatable: true }],
  options: [
    { long: 'warn', argument: 'N', help: 'more than N is a warning' },
    { long: 'crit', argument: 'N', help: 'more than N is critical' },
    { long: 'inactive', argument: 'DUR', help: 'nothing for so long is critical' },
    { long: 'nagios', help: 'print what a monitoring plugin prints, and exit as one' },
    { long: 'prometheus', help: 'print metrics in the text format of Prometheus' },
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [
    { line: 'stream check' },
    { line: 'stream check group nightly --crit 10000 --nagios' },
    { line: 'stream check topic orders --inactive 10m --prometheus' },
  ],
  exits: [[1, 'something is not healthy'], [3, 'no such topic or group'], [4, 'not reached']],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags } = args
  const { kind, names } = readTarget(args)
  const limits = readLimits(flags, kind)
  const failures = new TargetFailures(deps)
  if (!flags.has('nagios')) {
    const findings = await findAll(deps, args, kind, names, limits, failures)
    if (flags.has('prometheus')) await printText(deps.stdio.output, metricsOf(findings))
    else await printRows(deps, flags, shape, findings.map(rowOf))
    if (failures.exit !== 0) return failures.exit
    return findings.every(({ state }) => state === 'ok') ? 0 : 1
  }
  try {
    const findings = await findAll(deps, args, kind, names, limits, failures)
    if (failures.exit !== 0) return nagiosExit.unknown
    await printText(deps.stdio.output, pluginLine(findings))
    return nagiosExit[worstOf(findings)]
  } catch (error) {
    if (!isUnreachable(error)) throw error
    await printText(deps.stdio.output, `STREAM UNKNOWN - ${(error as Error).message}\n`)
    return nagiosExit.unknown
  }
}

function readTarget({ operands, flags }: CommandArgs): {
  readonly kind: Kind
  readonly names: readonly string[]
} {
  const [word = 'daemon', ...names] = operands
  const kind = kinds.find((each) => each === word)
  if (kind === undefined) {
    throw new UsageError(`${word}: not one of ${kinds.join(', ')}`, 'try: stream check --help')
  }
  const isNamed = kind === 'topic' || kind === 'group'
  if (isNamed && names.length === 0) throw new UsageError(`check ${kind}: NAME is missing`)
  if (!isNamed && names.length > 0) throw new UsageError(`${names[0]}: check ${kind} takes no name`)
  if (flags.has('nagios') && flags.has('prometheus')) {
    throw new UsageError('--nagios and --prometheus cannot be used together')
  }
  return { kind, names }
}

function readLimits(flags: Flags, kind: Kind): Limits {
  const limits = {
    warn: flags.wholeNumber('warn'),
    crit: flags.wholeNumber('crit'),
    inactiveMs: flags.durationMs('inactive'),
  }
  const isCounted = limits.warn !== undefined || limits.crit !== undefined
  if (kind === 'daemon' && isCounted) throw new UsageError('check daemon has nothing to count')
  if (limits.inactiveMs !== undefined && kind !== 'topic' && kind !== 'group') {
    throw new UsageError(`--inactive: of a topic or a group, not of a ${kind}`)
  }
  if (limits.warn !== undefined && limits.crit !== undefined && limits.warn > limits.crit) {
    throw new UsageError(`--warn ${limits.warn} is above --crit ${limits.crit}`)
  }
  return limits
}

async function findAll(
  deps: CommandDeps,
  args: CommandArgs,
  kind: Kind,
  names: readonly string[],
  limits: Limits,
  failures: TargetFailures,
): Promise<readonly Finding[]> {
  if (kind === 'daemon') {
    const status = await askStatus(deps, args)
    if (status === undefined) throw notRunning(deps, args)
    return daemonFindings(status)
  }
  const broker = await openBroker(deps, args, { mayStart: false })
  try {
    const admin = await deps.clients.admin(broker.cluster)
    if (kind === 'cluster') {
      const clusterAdmin = await deps.clients.clusterAdmin(broker.cluster)
      return await clusterFindings(admin, clusterAdmin, limits)
    }
    if (kind === 'topic') {
      return await topicFindings(deps, admin, { ...args, operands: names }, limits, failures)
    }
    const groups = await deps.clients.groupAdmin(broker.cluster)
    return await groupFindings(deps, { broker, admin, groups }, names, limits, failures)
  } finally {
    broker.cluster.close()
  }
}

function rowOf({ state, check, target, value, limit }: Finding) {
  return [state, check, target, value, limit]
}

function worstOf(findings: readonly Finding[]): Finding['state'] {
  if (findings.some(({ state }) => state === 'crit')) return 'crit'
  return findings.some(({ state }) => state === 'warn') ? 'warn' : 'ok'
}

/** One line: the verdict, what is wrong (or all, if nothing is), and the numbers behind a bar. */
function pluginLine(findings: readonly Finding[]): string {
  const worst = worstOf(findings)
  const word = { ok: 'OK', warn: 'WARNING', crit: 'CRITICAL' }[worst]
  const shown = worst === 'ok' ? findings : findings.filter(({ state }) => state !== 'ok')
  const words = shown.map(({ check, target, value, limit }) => {
    const over = limit === null || worst === 'ok' ? '' : ` (limit ${limit})`
    return `${check} of ${target} is ${value ?? 'unknown'}${over}`
  })
  const numbers = findings.flatMap(({ check, target, value, limit }) =>
    typeof value === 'number'
      ? [
          `'${target.replaceAll("'", '')} ${check}'=${value};${typeof limit === 'number' ? limit : ''}`,
        ]
      : [],
  )
  const data = numbers.length === 0 ? '' : ` | ${numbers.join(' ')}`
  return `STREAM ${word} - ${escapeTsv(words.join(', ').replaceAll('|', '/'))}${data}\n`
}

/** https://prometheus.io/docs/instrumenting/exposition_formats/ */
function metricsOf(findings: readonly Finding[]): string {
  const labels = ({ check, target }: Finding): string =>
    `{check="${check}",target="${target.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"}`
  const family = (name: string, help: string, rows: readonly string[]): string =>
    rows.length === 0
      ? ''
      : `# HELP ${name} ${help}\n# TYPE ${name} gauge\n${rows.map((row) => `${name}${row}\n`).join('')}`
  const state = { ok: 0, warn: 1, crit: 2 }
  return (
    family(
      'stream_check_state',
      '0 ok, 1 warning, 2 critical.',
      findings.map((finding) => `${labels(finding)} ${state[finding.state]}`),
    ) +
    family(
      'stream_check_value',
      'What was found.',
      findings.flatMap((finding) =>
        typeof finding.value === 'number' ? [`${labels(finding)} ${finding.value}`] : [],
      ),
    )
  )
}
