/**
 * Every command at a broker behind `kafka://`: each works there, or ends with one line that says why and the right exit code. Run at
 * the daemon's Kafka door (test/process/kafka-commands.test.ts) and at a real Kafka broker (test/witness/jvm-acceptance.ts).
 */
import assert from 'node:assert/strict'
import type { Program } from './program.ts'

export interface KafkaCommand {
  /** As `stream --help` lists it. */
  readonly name: string
  /** In bash; default: the name alone. */
  readonly line?: string
  /** Default 0. Whatever else it is, standard error is one line. */
  readonly exit?: number
  readonly stdout?: string | RegExp
  /** The line of a refusal. */
  readonly stderr?: RegExp
}

/** Only our native door has it: the line says so. */
const ofDaemon = { exit: 2, stderr: /kept by a daemon|native door/ } as const

// biome-ignore format: one row, one line
export const kafkaCommands: readonly KafkaCommand[] = [
  { name: 'produce', line: 'seq 3 | stream produce c1 --receipts -', stdout: 'c1\t0\t0\nc1\t0\t1\nc1\t0\t2\n' },
  { name: 'consume', line: 'stream consume c1 -g c1 --until-end', stdout: '1\n2\n3\n' },
  { name: 'cat', line: 'stream cat c1 --json | jq -c .value', stdout: '"1"\n"2"\n"3"\n' },
  { name: 'tail', line: 'stream tail c1 -n 2', stdout: '2\n3\n' },
  { name: 'pipe', line: 'stream pipe --in c1 --out c2 -j c2 --until-end -- cat; stream cat c2', stdout: '1\n2\n3\n' },
  { name: 'get', line: "printf 'k:1\\nk:2\\n' | stream produce c3 -K :; stream get c3 k", stdout: '2\n' },
  { name: 'verify', line: 'stream verify c1 c2 --any-order --ignore ts', stdout: '-\t3\t3\t3\n' },
  { name: 'topics list', line: 'stream topics list c1 | cut -f 1-2', stdout: 'c1\t1\n' },
  { name: 'topics describe', line: 'stream topics describe c1 | cut -f 1-3,7-9', stdout: /^c1\t0\t\d+\t0\t3\t3\n$/ },
  { name: 'topics create', line: 'stream topics create c4 --partitions 2 --compact --set max.message.bytes=2000000', stdout: 'c4\n' },
  { name: 'topics alter', line: 'stream topics alter c4 --set retention.ms=7200000 --partitions 3 | cut -f 1-2', stdout: 'c4\tretention.ms\nc4\tpartitions\n' },
  { name: 'topics delete', line: 'stream topics delete c4 -y', stdout: 'c4\n' },
  { name: 'topics trim', line: 'stream topics trim c2 --keep 1 -y', stdout: 'c2\t0\t0\t3\n' },
  { name: 'groups list', line: 'stream groups list c1', stdout: /^c1\tEmpty\t0\t0\n$/i },
  { name: 'groups describe', line: 'stream groups describe c1 | cut -f 1-6', stdout: 'c1\tc1\t0\t3\t3\t0\n' },
  { name: 'groups lag', line: 'stream groups lag c1 | cut -f 1-3', stdout: 'c1\tc1\t0\n' },
  { name: 'groups seek', line: 'stream groups seek c1 --to start -y', stdout: 'c1\t0\t3\t0\t-3\n' },
  { name: 'groups undo', line: 'stream groups undo c1 -y', stdout: 'c1\t0\t0\t3\t3\n' },
  { name: 'groups peek', line: 'stream groups peek c1', stdout: '3\n' },
  { name: 'groups delete', line: 'stream consume c1 -g c5 --until-end > /dev/null; stream groups delete c5 -y', stdout: 'c5\n' },
  { name: 'groups watch', line: 'stream groups watch c1 --every 200ms | head -1 | cut -f 1-3', stdout: 'c1\tc1\t0\n' },
  { name: 'txn', line: "stream txn -j c6 -- 'stream consume c1 -g c6 | jq -s -c add | stream produce c6'; stream cat c6", stdout: '6\n' },
  { name: 'txn list', line: 'stream txn list | cut -f 1', stdout: /c6/ },
  { name: 'txn describe', line: 'stream txn describe c6 | cut -f 1', stdout: /c6/ },
  { name: 'txn abort', line: 'stream txn abort c6 -y' },
  { name: 'dlq list', line: "stream pipe --in c1 --out c7 -j c7 --until-end --retry 0 -- awk '/2/ { exit 1 } { print }' 2> /dev/null; stream dlq list c7 | cut -f 2", stdout: '1\n' },
  { name: 'dlq show', line: 'stream dlq show c7', stdout: '2\n' },
  { name: 'dlq replay', line: 'stream dlq replay c7 -y' },
  { name: 'dlq drop', line: 'stream dlq drop c7 --all -y' },
  { name: 'mirror', line: 'stream mirror @side --topics c8; stream cat c8', stdout: '1\n2\n3\n' },
  { name: 'mirror link', line: 'stream mirror link l --source @side --topics c8', ...ofDaemon },
  { name: 'mirror status', line: 'stream mirror status @side --topics c8 | cut -f 1-7', stdout: '@side\tc8\t0\tcurrent\t3\t3\t0\n' },
  { name: 'mirror lag', line: 'stream mirror lag @side --topics c8 | cut -f 1-3', stdout: '@side\tc8\t0\n' },
  { name: 'mirror verify', line: 'stream mirror verify @side --topics c8', stdout: '@side\tc8\t0\t3\t3\t3\n' },
  { name: 'mirror pause', line: 'stream mirror pause l', ...ofDaemon },
  { name: 'mirror resume', line: 'stream mirror resume l', ...ofDaemon },
  { name: 'mirror promote', line: 'stream mirror promote l -y', ...ofDaemon },
  { name: 'mirror failback', line: 'stream mirror failback l -y', ...ofDaemon },
  { name: 'mirror unlink', line: 'stream mirror unlink l -y', ...ofDaemon },
  { name: 'tap', line: 'seq 2 | stream tap c9; stream cat c9', stdout: '1\n2\n1\n2\n' },
  { name: 'dump', line: 'stream dump side/c8-0 --json | jq -c .value', stdout: '"1"\n"2"\n"3"\n' },
  { name: 'fsck', line: 'stream fsck side', stdout: '' },
  { name: 'topics apply', line: 'stream topics describe c1 --json > c1.ndjson; stream topics apply c1.ndjson -y', stdout: '' },
  { name: 'topics diff', line: 'stream topics diff c1.ndjson', stdout: '' },
  { name: 'topics wait', line: 'stream topics wait c1 --end 3 --timeout 10s', stdout: '' },
  { name: 'daemon start', line: 'stream daemon start', ...ofDaemon },
  { name: 'daemon run', line: 'stream daemon run --ephemeral > addr & until [ -s addr ]; do sleep .1; done; cat addr; stream daemon stop -b "$(cat addr)"; wait', stdout: /^ipc:/ },
  { name: 'daemon stop', line: 'stream daemon stop', ...ofDaemon },
  { name: 'daemon status', line: 'stream daemon status', ...ofDaemon },
  { name: 'daemon logs', line: 'stream daemon logs -n 1', exit: 3, stderr: /no log/ },
  { name: 'cluster status', line: 'stream cluster status | cut -f 3', stdout: '1\n' },
  { name: 'cluster brokers', line: 'stream cluster brokers | cut -f 4', stdout: 'live\n' },
  { name: 'cluster elect', line: 'stream cluster elect' },
  { name: 'cluster reassign', line: 'stream cluster reassign --topics c1 --dry-run' },
  { name: 'cluster drain', line: 'stream cluster drain 999 --dry-run', exit: 3 },
  { name: 'cluster forget', line: 'stream cluster forget 999 -y', exit: 3 },
  { name: 'cluster doctor', line: 'stream cluster doctor' },
  { name: 'cluster demo', line: 'stream cluster demo --help | head -1', stdout: /^Run a cluster/ },
  { name: 'cluster adopt', line: 'stream cluster adopt --help | head -1', stdout: /^Make a single/ },
  { name: 'cluster keys', line: 'stream cluster keys --out shared.key | cut -f 1', stdout: 'cluster\n' },
  { name: 'users set', line: 'echo secret > pw; stream users set u --password-file pw; stream users list u | cut -f 1-2', stdout: /u\tSCRAM-SHA-256\nu\tSCRAM-SHA-512\n$/ },
  { name: 'users list', line: 'stream users list u | wc -l', stdout: '2\n' },
  { name: 'users delete', line: 'stream users delete u -y; stream users list | wc -l', stdout: /0\n$/ },
  { name: 'top', line: 'stream top -n 1 | grep -c c1', stdout: /^[1-9]/ },
  { name: 'check', line: 'stream check topic c1 && stream check cluster && stream check group c1 --crit 5' },
  { name: 'bench', line: 'stream bench produce --records 2000 | cut -f 1-2', stdout: 'produce\t2000\n' },
  { name: 'config list', line: "stream config list 'linger*' | cut -f 1", stdout: 'linger.ms\n' },
  { name: 'config get', line: 'stream config get linger.ms', stdout: '5\n' },
  { name: 'config set', line: 'stream config set linger.ms 6; stream config get linger.ms', stdout: '6\n' },
  { name: 'config unset', line: 'stream config unset linger.ms; stream config get linger.ms', stdout: '5\n' },
  { name: 'config keys', line: 'stream config keys | grep -c sasl', stdout: /^[1-9]/ },
  { name: 'context list', line: 'stream context list | cut -f 1', stdout: /side/ },
  { name: 'context set', line: 'stream context set here --broker $STREAM_BROKER; env -u STREAM_BROKER stream --context here cat c1 | wc -l', stdout: '3\n' },
  { name: 'context show', line: 'stream context show here', stdout: /kafka:\/\// },
  { name: 'context use', line: 'stream context use here; env -u STREAM_BROKER stream cat c1 | wc -l', stdout: '3\n' },
  { name: 'context delete', line: 'stream context delete here' },
  { name: 'completion', line: 'stream completion bash | grep -c complete', stdout: /^[1-9]/ },
  { name: 'explain', line: 'stream explain exit 6 | head -1', stdout: /6/ },
  { name: 'help', line: 'stream help guarantees | head -1', stdout: /\w/ },
  { name: 'version', line: 'stream version', stdout: /\d/ },
]

/** @param side  the native door of a daemon beside, whose data directory `side` (a link) is made a copy of */
export function prepareKafkaCommands(program: Program, side: string): void {
  program.ok(`stream context set side --broker ${side}; seq 3 | stream produce c8 -b ${side}`)
  program.ok('cp -r data-other side')
}

/** @returns what was seen. @throws AssertionError with what the command said */
export async function runKafkaCommand(
  program: Program,
  { name, line, exit = 0, stdout, stderr }: KafkaCommand,
): Promise<string> {
  const outcome = program.shell(line ?? `stream ${name}`, { timeoutMs: 60_000 })
  const said = `exit ${outcome.status}\n${outcome.stdout}\n${outcome.stderr}`
  assert.equal(outcome.status, exit, said)
  if (stdout instanceof RegExp) assert.match(outcome.stdout, stdout, said)
  else if (stdout !== undefined) assert.equal(outcome.stdout, stdout, said)
  if (exit !== 0) {
    assert.match(outcome.stderr, /^stream: [^\n]+\n$/, said)
    assert.equal(outcome.stdout, '', said)
  }
  if (stderr !== undefined) assert.match(outcome.stderr, stderr, said)
  return (exit === 0 ? outcome.stdout : outcome.stderr).trim().replaceAll('\n', ' ')
}
