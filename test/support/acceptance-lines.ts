/**
 * The acceptance checks of the command line's contract (section 8 of its page), in one table: run at the daemon's native door, at
 * its Kafka door (test/process/acceptance.test.ts) and at a real Kafka broker (test/witness/jvm-acceptance.ts). They build on each
 * other, so they run in this order, in one scratch home. What differs from the page is only how long things are waited for.
 */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { ended, type Outcome, type Program } from './program.ts'

export interface AcceptanceStage {
  /** Its STREAM_BROKER names the broker; STREAM_CONF_PRODUCE_CREATE is yes. */
  readonly program: Program
  /** kill -9 of the broker, and its start with the same data; absent: nobody may do that. */
  readonly restartBroker?: () => void | Promise<void>
}

export interface AcceptanceLine {
  readonly number: number
  /** In bash. */
  readonly line: string
  readonly stdout: string | RegExp
  /** Absent: whatever. */
  readonly stderr?: string | RegExp
  /** Marked D on the page: not at a Kafka door. */
  readonly isOfDaemon?: true
  /** Run beside the line, in its place or before it. */
  readonly before?: (stage: AcceptanceStage) => void | Promise<void>
}

const whole = '%K{big32}%k%V{big32}%v%d{big64}%H{big32}%h{%K{big32}%k%V{big32}%v}'

export const acceptanceLines: readonly AcceptanceLine[] = [
  {
    number: 1,
    line: 'yes | head -100000 | stream produce t && stream cat t | wc -l',
    stdout: '100000\n',
  },
  {
    number: 2,
    line: 'stream cat t | head -1; echo ${PIPESTATUS[0]}',
    stdout: 'y\n141\n',
    stderr: '',
  },
  {
    number: 3,
    line: 'head -c 1000000 /dev/urandom > r; stream produce raw --raw < r; stream cat raw --raw | cmp - r; echo $?',
    stdout: '0\n',
  },
  {
    number: 4,
    line: String.raw`printf 'a\n\nb\r\n\xff\xfe' | stream produce m; stream cat m --raw | xxd -p; stream cat m --json | jq -c .value | tail -1`,
    stdout: '61620dfffe\n{"b64":"//4="}\n',
  },
  { number: 5, line: "stream cat m -F '%V,'", stdout: '1,0,2,2,' },
  {
    number: 6,
    line: 'stream cat any --json | stream produce copy --json --keep-partition; stream verify any copy; echo $?',
    stdout: '0\t5\t5\t5\n1\t5\t5\t5\n2\t5\t5\t5\n0\n',
    before: ({ program }) => {
      program.ok('stream topics create any copy --partitions 3')
      program.ok('for p in 0 1 2; do stream produce any --json -p $p < any.ndjson; done')
    },
  },
  {
    number: 7,
    line: `stream cat any -F '${whole}' | stream produce copy7 -F '${whole}'; stream verify any copy7 --any-order; echo $?`,
    stdout: '-\t15\t15\t15\n0\n',
  },
  {
    number: 8,
    line: 'stream topics create e > /dev/null; stream cat e; echo $?; stream cat e --fail-empty; echo $?',
    stdout: '0\n3\n',
  },
  {
    number: 9,
    line: String.raw`printf 'k\tv\nbad\n' | stream produce k -K '\t'; echo $?; stream cat k`,
    stdout: '5\nv\n',
    stderr: /line 2: no key separator/,
  },
  {
    number: 10,
    line: 'stream produce z < /dev/null; stream produce z --raw < /dev/null; stream cat z | wc -l',
    stdout: '0\n',
  },
  {
    number: 11,
    line: 'seq 1 9 > f; while read -r x; do stream produce w --value "$x"; done < f; stream cat w | cmp - f; echo $?',
    stdout: '0\n',
  },
  {
    number: 12,
    line: 'stream cat t > /dev/full; echo $?',
    stdout: '1\n',
    stderr: /^[^\n]+\n$/,
  },
  {
    number: 13,
    line: `NO_COLOR=1 script -qc 'stream topics list' /dev/null | grep -c $'\\e'`,
    stdout: '0\n',
  },
  {
    number: 14,
    line: 'stream topics list -b ipc:///tmp/none.sock; echo $?; ls /tmp/none.sock 2> /dev/null',
    stdout: '4\n',
    stderr: /^[^\n]+\n$/,
  },
  {
    number: 15,
    line: 'stream topics delete t < /dev/null; echo $?; stream topics list t | cut -f1',
    stdout: '2\nt\n',
  },
  {
    number: 16,
    line: 'stream topics create x > /dev/null; stream topics create x; echo $?; stream topics create x --if-not-exists > /dev/null; echo $?',
    stdout: '8\n0\n',
  },
  { number: 17, line: 'stream get t nokey; echo $?', stdout: '3\n', stderr: '' },
  {
    number: 18,
    line: 'stream produce t -p 0 --value x --expect-offset 5; echo $?; stream cat t | wc -l',
    stdout: '8\n100000\n',
    stderr: /^[^\n]+ends at 100000, not at 5[^\n]*\n$/,
    isOfDaemon: true,
  },
  {
    number: 19,
    line: 'stream consume t --idle 1s; echo $?; stream consume t --timeout 1s; echo $?',
    stdout: '0\n7\n',
  },
  {
    number: 20,
    line: 'timeout --preserve-status -s INT 5 stream consume t -g g --from start > out; echo $?; stream groups lag g -o tsv | cut -f3; wc -l < out',
    stdout: '130\n0\n100000\n',
  },
  {
    // The input is still open when the line is read.
    number: 21,
    line: '(echo $BASHPID > pid; echo a; exec sleep 30) | stream produce i & stream consume i -n 1 --from start --wait-topic --timeout 20s; echo $?; kill $(cat pid); wait',
    stdout: 'a\n0\n',
  },
  {
    number: 22,
    line: "stream pipe --in t --out b -j p --until-end --retry 0 --on-fail stop -- sh -c 'cat; exit 1'; echo $?; stream cat b | wc -l",
    stdout: '9\n0\n',
  },
  {
    number: 23,
    line: 'stream pipe --in t --out b -j q --until-end --epoch 50000 --retry 0 --on-fail stop -- head -1; echo $?',
    stdout: '9\n',
    stderr: /exited before reading all of its input/,
  },
  {
    number: 24,
    line: 'until stream pipe --in t --out d -j r --until-end -- cat; do :; done; stream verify t d --any-order --ignore ts; echo $?',
    stdout: '-\t100000\t100000\t100000\n0\n',
    before: pipeUnderKills,
  },
  {
    number: 25,
    line: 'stream pipe --in n --out ok -j s --until-end --retry 0 -- ./fails-on-some; echo $?; stream cat s.dlq | sort -n; stream cat ok | sort -n | cmp - <(seq 300 | grep -vxE "7|77|177"); echo $?',
    stdout: '5\n7\n77\n177\n0\n',
    before: ({ program }) => {
      program.ok('seq 300 | stream produce n')
    },
  },
  {
    number: 26,
    line: "stream txn -j x -- 'stream consume t -g x | false | stream produce y'; echo $?; stream cat y | wc -l; stream groups lag x 2> /dev/null | cut -f3",
    stdout: /^9\n0\n(100000\n)?$/,
  },
  {
    number: 27,
    line: "stream txn -j l -- 'touch runs; exec sleep 30' & until [ -e runs ]; do sleep .05; done; stream txn -j l -- true; echo $?; kill $!; wait",
    stdout: '8\n',
  },
  {
    number: 28,
    line: 'seq 1000000 > f; for s in 1 .7 1.3; do timeout -s KILL $s stream produce big --resume i f; done; stream produce big --resume i f; stream cat big | cmp - f; echo $?',
    stdout: '0\n',
  },
  {
    number: 29,
    line: 'stream consume t --cursor-file p --until-end > a; echo new | stream produce t; stream consume t --cursor-file p --until-end',
    stdout: 'new\n',
  },
  {
    number: 30,
    line: 'was=$(stream groups lag g | cut -f1-3); stream groups seek g --to start -y > /dev/null; stream groups lag g | cut -f3; stream groups undo g -y > /dev/null; [ "$was" = "$(stream groups lag g | cut -f1-3)" ]; echo $?',
    stdout: '100001\n0\n',
  },
  {
    number: 31,
    line: 'stream consume t -g g > /dev/null & until stream groups describe g --members 2> /dev/null | grep -q stream; do sleep .05; done; stream groups seek g --to start -y; echo $?; kill $!; wait',
    stdout: '8\n',
  },
  {
    number: 32,
    line: 'stream mirror @other --topics t2; stream verify t2 @other/t2; echo $?; stream mirror @other --topics t2 --report r; jq .records r',
    stdout: '0\t1000\t1000\t1000\n0\n0\n',
  },
  {
    number: 33,
    line: 'DAEMON=$(stream daemon status --json | jq .pid); export STREAM_AUTOSTART=0; yes | stream produce k9 --delivery-timeout 5s --report r & sleep 1; kill -9 $DAEMON; wait $!; echo $?; STREAM_AUTOSTART=1 stream cat k9 | wc -l > found; [ $(jq .through_line r) -gt 0 ] && [ $(jq .through_line r) -le $(cat found) ]; echo $?',
    stdout: '5\n0\n',
    isOfDaemon: true,
  },
  {
    number: 34,
    line: "stream topics describe '*' --json | (sleep 2; jq -e .v > /dev/null); echo ${PIPESTATUS[0]} $?",
    stdout: '0 0\n',
    before: ({ program }) => {
      program.ok('for n in 1 2 3; do stream topics create wide$n --partitions 200; done')
      const bytes = Number(program.ok("stream topics describe '*' --json | wc -c"))
      assert.ok(bytes > 65_536, `${bytes} bytes are no test`)
    },
  },
  {
    number: 35,
    line: '{ stream -X sasl.password=s3cret topics list; echo $?; } > said 2>&1; tail -1 said; grep -c s3cret said',
    stdout: '2\n0\n',
  },
  {
    number: 36,
    line: "stream daemon stop; log=$(echo data/stream/t-0/*0.log); printf '\\xff' | dd of=$log bs=1 seek=200 conv=notrunc status=none; stream dump data/stream/t-0 --json | jq -e .v > /dev/null; echo ${PIPESTATUS[0]}",
    stdout: '5\n',
    stderr: /0{20}\.log: bytes 0 to \d+ \(offset 0\) are damaged/,
    isOfDaemon: true,
  },
]

/** Files and the other broker, before the first line. @param other  the native door of a daemon */
export function prepareAcceptance({ program }: AcceptanceStage, other: string): void {
  const envelopes = [
    {
      value: 'a',
      key: 'tab\tkey',
      headers: [
        ['h', '1'],
        ['h', '2'],
        ['n', null],
      ],
    },
    { value: null, key: 'line\nkey' },
    { value: '', key: null },
    { value: { b64: 'AP8K' }, key: { b64: 'AP8=' } },
    {
      value: 'ü\u2028\u0000',
      key: 'nul\u0000',
      ts: 1_700_000_000_123,
      headers: [[{ b64: '/w==' }, { b64: 'gA==' }]],
    },
  ]
  const text = envelopes.map((each) => `${JSON.stringify(each)}\n`).join('')
  writeFileSync(program.path('any.ndjson'), text)
  const script = `#!/bin/sh\nexec awk '/^(7|77|177)$/ { exit 1 } { print }'\n`
  writeFileSync(program.path('fails-on-some'), script, { mode: 0o755 })
  program.ok(`stream context set other --broker ${other}`)
  program.ok(`seq 1000 | stream produce t2 -b ${other}`)
}

/** @returns what was seen. @throws AssertionError with what the line said */
export async function runAcceptanceLine(
  stage: AcceptanceStage,
  { line, stdout, stderr, before }: AcceptanceLine,
): Promise<string> {
  await before?.(stage)
  const outcome = stage.program.shell(line, { timeoutMs: 120_000 })
  check(outcome, outcome.stdout, stdout)
  if (stderr !== undefined) check(outcome, outcome.stderr, stderr)
  return outcome.stdout.trim().replaceAll('\n', ' ')
}

function check(outcome: Outcome, said: string, wanted: string | RegExp): void {
  const isFine = typeof wanted === 'string' ? said === wanted : wanted.test(said)
  if (isFine) return
  const { stderr } = outcome
  assert.fail(`wanted ${JSON.stringify(String(wanted))}, got ${JSON.stringify(said)}\n${stderr}`)
}

const KILLS = 6

/** Runs of line 24 that are killed in turn: the command, its child, the broker. */
async function pipeUnderKills({ program, restartBroker }: AcceptanceStage): Promise<void> {
  const line = 'exec stream pipe --in t --out d -j r --until-end --epoch 1000,1MiB,20ms -- cat'
  for (let kills = 0; kills < KILLS; ) {
    const run = program.start('bash', ['-c', line], { stdio: 'ignore' })
    const over = ended(run)
    const pauseMs = 300 + 150 * (kills % 3) + Math.random() * 100
    await Promise.race([over, new Promise((resolve) => setTimeout(resolve, pauseMs))])
    const { pid = 0 } = run
    kills += 1
    if (kills % 3 === 0) await restartBroker?.()
    else if (kills % 3 === 1) for (const child of childrenOf(pid)) kill(child)
    else kill(pid)
    // Whatever has become of it: the next one begins where the last commit was.
    kill(pid)
    await over
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended by itself.
  }
}

function childrenOf(parent: number): number[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return []
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1')
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      return Number(fields[1]) === parent && fields[0] !== 'Z' ? [Number(name)] : []
    } catch {
      return []
    }
  })
}
