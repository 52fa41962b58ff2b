/** `stream pipe` on the built program: what it promises, children that misbehave, and what it says then. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ended, eventually, Program } from '../support/program.ts'

let program: Program
const count = 10_000

beforeAll(() => {
  program = new Program({
    environment: { STREAM_CONF_GROUP_INITIAL_REBALANCE_DELAY_MS: '0' },
  })
  program.ok('stream daemon start')
  program.ok('stream topics create t --partitions 2')
  program.ok(
    `seq ${count} | sed 's/.*/{"n":&,"t":"abc"}/' > lines; stream produce t --batch-size 8KiB < lines`,
  )
})
afterAll(() => program?.stop())

const lines = (topic: string): number => Number(program.ok(`stream cat ${topic} | wc -l`))
let jobs = 0
const bounded = '--until-end --from start -q'

/** One line on standard error that has all of these words, and the exit code. */
function fails(flags: string, child: string, exit: number, words: readonly string[], out = 'none') {
  jobs += 1
  const topic = out === 'none' ? `none${jobs}` : out
  const run = program.shell(
    `stream pipe --in t --out ${topic} -j fail${jobs} ${bounded} --retry 0 --on-fail stop --grace 500ms ${flags} -- ${child}`,
  )
  const said = run.stderr.split('\n').filter((line) => line.startsWith('stream: pipe: '))
  expect(said, run.stderr).toHaveLength(1)
  for (const word of words) expect(said[0]).toContain(word)
  expect(run.status, run.stderr).toBe(exit)
  expect(run.stdout).toBe('')
  expect(lines(topic)).toBe(0)
  const lag = program.ok(`stream groups lag fail${jobs} -o tsv --total | cut -f3`).trim()
  expect(Number(lag)).toBeGreaterThanOrEqual(count)
}

describe('pipe: the exit barrier', () => {
  it('passes every record on, keeps partitions and order, and goes on where it was', () => {
    const pipe = `stream pipe --in t --out same -j same --same-partition ${bounded} -- jq -c .`
    program.ok(pipe)
    expect(program.shell('stream verify t same --ignore ts').status).toBe(0)
    program.ok(`echo '{"n":0}' | stream produce t; ${pipe}`)
    expect(program.shell('stream verify t same --ignore ts').status).toBe(0)
    expect(program.ok('stream groups lag same -o tsv --total | cut -f3').trim()).toBe('0')
    program.ok('stream topics delete same -y')
  })

  it('any number out, in any order, and a filter that may find nothing', () => {
    program.ok(`stream pipe --in t --out sums -j sums ${bounded} --epoch 1000 -- sort -u`)
    program.ok(`stream pipe --in t --out few -j few ${bounded} --success 0,1 -- grep 9999`)
    expect(lines('few')).toBe(1)
    expect(lines('sums')).toBeGreaterThan(count - 1)
  })

  it('tells the child what it has', () => {
    const run = program.shell(
      `stream pipe --in t -j facts ${bounded} --epoch 4000 -P 1 -n 4000 -- sh -c 'env | grep ^STREAM_ | sort >> facts; cat > /dev/null'`,
    )
    expect(run.status, run.stderr).toBe(0)
    const facts = program.ok('cat facts')
    expect(facts).toMatch(/STREAM_BATCH_ID=facts\/t\/[01]\/0-3999\n/)
    for (const fact of [
      'COUNT=4000',
      'FIRST=0',
      'LAST=3999',
      'JOB=facts',
      'LANE=0',
      'ATTEMPT=1',
      'BARRIER=exit',
      'TOPIC=t',
    ]) {
      expect(facts).toContain(`STREAM_${fact}\n`)
    }
    expect(facts).toMatch(/STREAM_BROKER=ipc:/)
  })

  it('exit 1 after all was printed: nothing is seen, nothing moves (acceptance 22)', () => {
    fails('', `sh -c 'cat; exit 1'`, 9, ['exit 1', '--success'])
  })

  it('a child that exits early (acceptance 23)', () => {
    fails('--epoch 50000', 'head -1', 9, ['exited before reading all of its input', '--partial'])
    program.ok(
      `stream pipe --in t --out heads -j heads ${bounded} --epoch 50000 --partial -- head -1`,
    )
    expect(lines('heads')).toBe(2)
  })

  it('a child that never reads, and one that does not end', () => {
    fails('', 'true', 9, ['before reading all', '--partial'])
    fails('--child-timeout 500ms', 'sleep 100', 9, ['not done within 500ms', '--child-timeout'])
  })

  it('a child that floods its output without reading', () => {
    fails('--spool-max 1MiB', 'yes', 9, ['printed more than 1.0 MiB', '--spool-max'])
  })

  it('a child that ignores SIGTERM, with all that it started', () => {
    const child = `bash -c 'trap "" TERM; cat; echo $$ > stubborn; sleep 1000 & while :; do sleep 1; done'`
    fails('--child-timeout 1s -P 1', child, 9, ['not done within 1s', '--child-timeout'])
    expect(
      program.ok('ps -eo pgid=,stat= | awk -v g="$(cat stubborn)" \'$1 == g && $2 !~ /^Z/\''),
    ).toBe('')
  })

  it('a child that leaves a process behind', () => {
    fails('', `sh -c 'cat; sleep 60 &'`, 9, ['left processes running', 'wait'])
  })

  it('a child that is killed, or not found, or asks for the end of everything', () => {
    fails('', `sh -c 'cat; kill -9 $$'`, 9, ['killed by SIGKILL'])
    fails('', 'no-such-program', 9, ['no-such-program', 'not found'])
    fails('', `sh -c 'exit 255'`, 9, ['exit 255'])
  })

  it('half a line at the end is a record, as of any input', () => {
    program.ok(
      `stream pipe --in t --out half -j half ${bounded} --epoch 50000 -- sh -c 'cat > /dev/null; printf half'`,
    )
    expect(program.ok('stream cat half')).toBe('half\nhalf\n')
  })

  it('output that makes no record is a failure of its epoch', () => {
    fails('--child-out json', `sh -c 'cat > /dev/null; echo no envelope'`, 9, ['makes no record'])
    fails('', `sh -c 'cat > /dev/null; head -c 3000000 /dev/zero'`, 9, ['longer than'])
  })

  it('a value that contains the delimiter is not passed on as two', () => {
    program.ok(String.raw`printf 'a\nb' | stream produce two --raw`)
    const run = program.shell(
      `stream pipe --in two --out none -j two ${bounded} --on-fail stop -- cat`,
    )
    expect(run.status).toBe(9)
    expect(run.stderr).toContain(
      'a value contains the delimiter; to tell records apart: --child-in json',
    )
    program.ok(
      `stream pipe --in two --out two2 -j two ${bounded} --child-in json --child-out json -- cat`,
    )
    expect(program.ok('stream cat two2 --json | jq -c .value')).toBe('"a\\nb"\n')
  })

  it('exit 75 is tried again without end', () => {
    program.ok(
      `stream pipe --in t --out later -j later ${bounded} --retry 0,10ms -P 1 --epoch 50000 -- sh -c 'echo x >> tries; [ $(wc -l < tries) -gt 3 ] || exit 75; cat'`,
    )
    expect(lines('later')).toBeGreaterThanOrEqual(count)
  })

  it('--keep-topic: the child says where to, and not beyond what is allowed', () => {
    program.ok('stream topics create kt.even kt.odd other')
    const child = `jq -c '{topic: ((if .n % 2 == 0 then "kt.even" else "kt.odd" end)), value: (.n | tostring)}'`
    program.ok(
      `stream pipe --in t --out 'kt.*' --keep-topic --child-out json -j kt ${bounded} --spool-dir "$PWD/spools" -- ${child}`,
    )
    expect(lines('kt.even') + lines('kt.odd')).toBe(lines('t'))
    expect(program.ok('stream cat kt.odd | awk "\\$1 % 2 == 0" | wc -l').trim()).toBe('0')
    expect(program.shell('ls "$PWD/spools"').stdout).toBe('')
    const beyond = program.shell(
      `stream pipe --in t --out 'kt.*' --keep-topic --child-out json -j kt2 ${bounded} --retry 0 --on-fail stop -- jq -c '{topic: "other", value: "x"}'`,
    )
    expect([beyond.status, lines('other')]).toEqual([9, 0])
    expect(beyond.stderr).toContain('other')
  })

  it('without a job: one run, which says so', () => {
    const run = program.shell(`stream pipe --in t --out once --until-end -- cat`)
    expect(run.status).toBe(0)
    expect(run.stderr).toContain('no --job')
    expect(lines('once')).toBeGreaterThanOrEqual(count)
  })
})

describe('pipe: records that fail', () => {
  const bad = `awk '{ match($0, /"n":[0-9]+/); n = substr($0, RSTART + 4, RLENGTH - 4) + 0; if (n && n % 997 == 0) { print "bad " n > "/dev/stderr"; exit 3 } print }'`

  const wanted = Array.from({ length: Math.floor(count / 997) }, (_, index) =>
    String(997 * (index + 1)),
  )
  const badLine = `sed -uE '/"n":(${wanted.join('|')}),/Q3'`

  for (const barrier of ['exit', 'line']) {
    it(`every 997th, --barrier ${barrier}: those alone are dead-lettered, all others go on (acceptance 25)`, () => {
      const program997 = barrier === 'line' ? badLine : bad
      const run = program.shell(
        `stream pipe --in t --out ok.${barrier} -j s.${barrier} ${bounded} --barrier ${barrier} --retry 0 --same-partition -- ${program997}`,
        { timeoutMs: 120_000 },
      )
      expect(run.status, run.stderr.slice(-2000)).toBe(5)
      // The child's own words stand beside it, so it is not the only line.
      expect(run.stderr).toContain(
        `stream: pipe: ${wanted.length} records were dead-lettered in s.${barrier}.dlq; to see why: stream dlq list s.${barrier}\n`,
      )
      const dead = program.ok(`stream cat s.${barrier}.dlq | jq -r .n | sort -n`).trim().split('\n')
      expect(dead).toEqual(wanted)
      for (const partition of [0, 1]) {
        const input = `stream cat t -p ${partition} | grep -vE '"n":(${dead.join('|')}),'`
        expect(
          program.shell(`cmp <(${input}) <(stream cat ok.${barrier} -p ${partition})`).status,
        ).toBe(0)
      }
      const facts = program.ok(
        `stream cat s.${barrier}.dlq --json -n 1 | jq -c '.headers | map(.[0])'`,
      )
      expect(facts).toContain('dlq.error')
    }, 150_000)
  }

  it('too many of them stop the job', () => {
    const run = program.shell(
      `stream pipe --in t --out many -j many ${bounded} --retry 0 --dlq-max 0.1%/1m --on-fail dlq --epoch 20 -P 1 -- false`,
    )
    expect(run.status).toBe(9)
    expect(run.stderr).toContain('too many dead letters (--dlq-max 0.1%/1m)')
  })

  it('what is given back is read by itself', () => {
    program.ok(
      `printf 'good\\n' | stream produce back; stream pipe --in back --out back2 -j back ${bounded} -- cat`,
    )
    program.ok('stream topics create back.retry; echo again | stream produce back.retry')
    program.ok(`stream pipe --in back --out back2 -j back ${bounded} -- cat`)
    expect(program.ok('stream cat back2')).toBe('good\nagain\n')
  })
})

describe('pipe: the line barrier', () => {
  const line = '--barrier line --stall 1s'

  it('keeps key, headers and timestamp; an empty line drops', () => {
    program.ok(
      String.raw`printf 'k1\tv1\nk2\tdrop\nk3\tv3\n' | stream produce keyed -K '\t' -H h=x`,
    )
    program.ok(
      `stream pipe --in keyed --out keyed2 -j keyed ${bounded} ${line} -- sed -u 's/^v/w/;s/^drop$//'`,
    )
    const fields = `jq -c '[.ts,.key,.value,.headers]'`
    const expected = program.ok(
      `stream cat keyed --json | grep -v drop | sed 's/"v1"/"w1"/;s/"v3"/"w3"/' | ${fields}`,
    )
    expect(program.ok(`stream cat keyed2 --json | ${fields}`)).toBe(expected)
  })

  it('a long-lived child sees all lines of its lane', () => {
    program.ok(
      `stream pipe --in t --out long -j long ${bounded} ${line} --same-partition -- jq --unbuffered -c .`,
    )
    expect(program.shell('stream verify t long --ignore ts').status).toBe(0)
  })

  it('answers within the time of a transaction, not of a batch', async () => {
    program.ok('stream topics create quick')
    const pipe = program.start(program.stream, [
      'pipe',
      '--in',
      'quick',
      '--out',
      'quick2',
      '-j',
      'quick',
      '--from',
      'start',
      '--barrier',
      'line',
      '--epoch',
      '20ms',
      '-q',
      '--',
      'cat',
    ])
    for (let round = 1; round <= 3; round += 1) {
      program.ok(`echo ${round} | stream produce quick`)
      await eventually('the answer', () => {
        const seen = program.shell('stream cat quick2').stdout
        return seen.endsWith(`${round}\n`) ? true : undefined
      })
    }
    pipe.kill('SIGTERM')
    expect(await ended(pipe)).toBe(143)
    expect(program.ok('stream groups lag quick -o tsv | cut -f3').trim()).toBe('0')
  })

  it('a child that buffers for ever stalls with its cures', () => {
    fails(`${line}`, 'jq -c .', 9, [
      'no answer for 1s',
      'buffers its output',
      '--barrier exit',
      'jq --unbuffered',
      'stdbuf -oL',
    ])
  })

  it('half a line is no answer', () => {
    fails(line, `sh -c 'read x; printf half; sleep 100'`, 9, [
      'no answer for 1s, after 0 of',
      'stdbuf -oL',
      '--stall DUR',
    ])
  })

  it('too many answers, too few, none', () => {
    // Two lines in one write, and an odd number of them wanted: the last one never comes alone.
    const twice = `awk '{ print $0 "\\n" $0; fflush() }'`
    const surplus = ['answered more lines than it was given', '--barrier exit']
    fails(`${line} --epoch 999`, twice, 9, surplus)
    fails(line, 'head -10', 9, ['exited after 10 of', '--barrier exit'])
    // Its output ends before it does.
    fails(line, `sh -c 'head -10; exec 1>&-; sleep 0.05'`, 9, ['exited after 10 of'])
    fails(line, `sh -c 'exec 1>&-; sleep 100'`, 9, ['closed its output after 0 of'])
    fails(line, 'yes', 9, ['answered more lines than it was given'])
    fails(line, 'no-such-program', 9, ['not found'])
  })
})

describe('pipe: the ack barrier', () => {
  const child = String.raw`python3 -u -c '
import sys, os
every = int(sys.argv[1]); mode = sys.argv[2] if len(sys.argv) > 2 else ""
n = 0; held = []
if mode == "ready": sys.stdout.write("\x1eready {%sresume%s:{%s0%s:1000}}\n" % ((chr(34),) * 4))
for line in sys.stdin:
    if line[0] == "\x1e": continue
    n += 1
    if mode == "dead" and n % 2000 == 0: held.append("\x1enack %d dead round\n" % n); continue
    if mode == "crash" and n == 3000 and not os.path.exists("crashed"): open("crashed", "w"); os._exit(3)
    if mode == "lies": held.append("\x1eack 99999999\n")
    held.append(line)
    if n % every == 0: sys.stdout.write("".join(held) + "\x1eack %d\n" % n); held = []
sys.stdout.write("".join(held) + "\x1eack %d\n" % n)
'`
  const ack = '--barrier ack --stall 2s'

  it('what is acknowledged is committed with what was printed before; a crash repeats nothing', () => {
    for (const [name, args] of [
      ['each', '1'],
      ['many', '777'],
      ['crash', '500 crash'],
    ]) {
      const topic = `ack.${name}`
      program.ok(
        `stream pipe --in t --out ${topic} -j ${topic} ${bounded} ${ack} --retry 3,10ms --same-partition -P 2 -- ${child} ${args}`,
      )
      expect(program.shell(`stream verify t ${topic} --ignore ts`).status).toBe(0)
      expect(program.ok(`stream groups lag ${topic} -o tsv --total | cut -f3`).trim()).toBe('0')
    }
  }, 60_000)

  it('gives records up, and tells where its target stands', () => {
    const run = program.shell(
      `stream pipe --in t --out ack.dead -j ack.dead ${bounded} ${ack} -P 1 -- ${child} 300 dead`,
    )
    expect(run.status).toBe(5)
    expect(lines('ack.dead.dlq') + lines('ack.dead')).toBe(lines('t'))
    expect(lines('ack.dead.dlq')).toBeGreaterThanOrEqual(5)
    program.ok(
      `stream pipe --in t --out ack.ready -j ack.ready ${bounded} ${ack} --ctl -P 1 -- ${child} 300 ready`,
    )
    expect(lines('ack.ready')).toBe(lines('t') - 1000)
  })

  it('a sink acknowledges on descriptor 3', () => {
    program.ok(
      `stream pipe --in t -j ack.sink ${bounded} ${ack} -- bash -c 'n=0; while read -r x; do n=$((n + 1)); [ $((n % 500)) != 0 ] || echo "ack $n" >&3; done; echo "ack $n" >&3'`,
    )
    expect(program.ok('stream groups lag ack.sink -o tsv --total | cut -f3').trim()).toBe('0')
  })

  it('silence, lies and errors end the job', () => {
    fails('--barrier ack --stall 500ms', `sh -c 'sleep 100'`, 9, [
      'acknowledged nothing for 500ms',
      'ack N',
      '--stall',
    ])
    fails(`${ack}`, `${child} 5 lies`, 9, ['acknowledged line 99999999'])
    fails(`${ack}`, String.raw`sh -c 'printf "\036error fatal no disk\n"; sleep 100'`, 9, [
      'no disk',
    ])
    fails(`${ack}`, `sh -c 'exit 4'`, 9, ['exit 4'])
  })
})

describe('pipe: a long-lived child that ends', () => {
  const answer = {
    line: `while read -r x; do echo "$x"; done;`,
    ack: String.raw`n=0; while read -r x; do n=$((n + 1)); echo "$x"; printf "\036ack $n\n"; done;`,
  }

  beforeAll(() => {
    program.ok('seq 20 | stream produce few.in --create')
  })

  for (const barrier of ['line', 'ack'] as const) {
    const pipe = (name: string, rest: string) =>
      program.shell(
        `stream pipe --in few.in --out end.${barrier}.${name} -j end.${barrier}.${name} --until-end --from start --retry 0 --on-fail stop --barrier ${barrier} -P 1 -- sh -c '${answer[barrier]} ${rest}'`,
      )

    it(`${barrier}: what it prints behind its last answer is told`, () => {
      for (const [name, rest] of [
        ['whole', 'echo total'],
        ['half', 'printf total'],
      ] as const) {
        const run = pipe(name, rest)
        expect(run.status, run.stderr).toBe(9)
        expect(run.stderr).toContain(
          barrier === 'ack' ? 'bytes behind its last ack' : 'answered more lines than it was given',
        )
        expect(lines(`end.${barrier}.${name}`)).toBe(20)
      }
    })

    it(`${barrier}: an exit code after everything was answered is told, and no failure`, () => {
      const run = pipe('exit3', 'exit 3')
      expect(run.status, run.stderr).toBe(0)
      expect(run.stderr).toContain('exit 3, after it had answered everything')
      expect(lines(`end.${barrier}.exit3`)).toBe(20)
      const stop = pipe('exit255', 'exit 255')
      expect(stop.status, stop.stderr).toBe(9)
      expect(lines(`end.${barrier}.exit255`)).toBe(20)
    })
  }
})

describe('pipe: no barrier, and sources', () => {
  it('none: everything goes through, nothing is promised', () => {
    program.ok(
      `stream pipe --in t --out free -j free ${bounded} --barrier none --same-partition -P 2 -- cat`,
    )
    expect(lines('free')).toBe(lines('t'))
    // More than a pipe holds: what has been written to a child that never reads it would pass for read.
    program.ok('seq 500000 | stream produce long --create')
    const run = program.shell(
      `stream pipe --in long --out free2 -j free2 ${bounded} --barrier none --retry 0 --on-fail stop -- head -1`,
    )
    expect(run.status, run.stderr).toBe(9)
    expect(run.stderr).toContain('exited before the end of its input')
  })

  it('line: each line; exit: all or nothing', () => {
    program.ok('stream pipe --out src -j src -- seq 1000')
    expect(program.ok('stream cat src')).toBe(program.ok('seq 1000'))
    const half = program.shell(`stream pipe --out src.half -- sh -c 'echo whole; printf half'`)
    expect([half.status, program.ok('stream cat src.half')]).toEqual([0, 'whole\nhalf\n'])
    const bad = program.shell(
      `stream pipe --out src.exit -j src.exit --barrier exit --retry 0 -- sh -c 'seq 10; exit 3'`,
    )
    expect([bad.status, lines('src.exit')]).toEqual([9, 0])
    expect(bad.stderr).toContain('exit 3')
    program.ok('stream pipe --out src.exit -j src.exit --barrier exit -- seq 10')
    expect(lines('src.exit')).toBe(10)
  })

  it('what the broker refuses leaves no transaction open', () => {
    program.ok('stream topics create src.keyed --compact')
    const keyed = `seq -f '{"key":"k%.0f","value":"0123456789012345678901234567890123456789"}' 100000`
    program.ok(`{ ${keyed}; echo '{"value":"no key"}'; } > keyed.ndjson`)
    const run = program.shell(
      'stream pipe --out src.keyed --barrier exit --child-out json --retry 0 -- cat keyed.ndjson',
    )
    expect(run.status).toBe(9)
    expect(run.stderr).toContain('a compacted topic needs a key')
    expect(program.ok('stream txn list --state Ongoing')).toBe('')
  })

  it('ack: goes on from its state; what lies behind it is not stored', () => {
    const child =
      String.raw`sh -c 's=$(cat $STREAM_CARRY_FILE); s=$((\${s:-0} + 1)); echo "a $s"; echo "b $s"; printf "\036state %d\n" $s; echo lost; exit 0'`.replaceAll(
        '\\$',
        '$',
      )
    for (const round of [1, 2]) {
      const run = program.shell(`stream pipe --out src.ack -j src.ack --barrier ack -- ${child}`)
      expect(run.status, run.stderr).toBe(0)
      expect(run.stderr).toContain('behind the last state')
      expect(lines('src.ack')).toBe(round * 2)
    }
    expect(program.ok('stream cat src.ack')).toBe('a 1\nb 1\na 2\nb 2\n')
  })

  it('a newer run fences the older', async () => {
    const words = [
      'pipe',
      '--out',
      'fenced',
      '-j',
      'fenced',
      '--retry',
      '0',
      '--',
      'sh',
      '-c',
      'while sleep 0.1; do echo x; done',
    ]
    const older = program.start(program.stream, words)
    let errors = ''
    older.stderr?.on('data', (chunk: Buffer) => {
      errors += chunk.toString()
    })
    await eventually('a first line', () =>
      program.shell('stream cat fenced | head -1').stdout === '' ? undefined : true,
    )
    const newer = program.start(program.stream, words)
    expect(await ended(older)).toBe(8)
    expect(errors.trim().split('\n')).toHaveLength(1)
    expect(errors).toContain('a newer run has taken over')
    newer.kill('SIGTERM')
    expect(await ended(newer)).toBe(143)
  })
})

describe('pipe: what is kept from epoch to epoch', () => {
  const add = `sh -c 'cat > /dev/null; c=$(cat $STREAM_CARRY_FILE); c=$((\${c:-0} + STREAM_COUNT)); echo $c > $STREAM_CARRY_FILE; echo $c'`

  it('a carry for each partition, over runs', () => {
    const pipe = `stream pipe --in t --out totals -j totals ${bounded} --same-partition --carry kept --epoch 900 -- ${add}`
    program.ok(pipe)
    for (const partition of [0, 1]) {
      const wanted = program.ok(`stream cat t -p ${partition} | wc -l`)
      expect(program.ok(`stream cat totals -p ${partition} | tail -1`)).toBe(wanted)
    }
    program.ok(
      `echo more | stream produce more; stream pipe --in more --out more2 -j more ${bounded} --carry kept -- ${add}`,
    )
    program.ok(
      `echo more | stream produce more; stream pipe --in more --out more2 -j more ${bounded} --carry kept -- ${add}`,
    )
    expect(program.ok('stream cat more2')).toBe('1\n2\n')
  })

  it('one carry for the job, in one lane; a second run is refused', async () => {
    program.ok(
      `stream pipe --in t --out all -j all ${bounded} --carry kept --carry-by job --epoch 900 -- ${add}`,
    )
    expect(program.ok('stream cat all | sort -n | tail -1')).toBe(
      program.ok('stream cat t | wc -l'),
    )
    const first = program.start(program.stream, [
      'pipe',
      '--in',
      't',
      '--out',
      'all',
      '-j',
      'one',
      '--singleton',
      '--',
      'cat',
    ])
    await eventually('the first run', () => {
      const described = program.shell('stream groups describe one --members -o tsv')
      return described.stdout.trim() === '' ? undefined : true
    })
    const second = program.shell(
      'stream pipe --in t --out all -j one --singleton --until-end -- cat',
    )
    expect(second.status).toBe(8)
    expect(second.stderr).toContain('another run of this job is under way')
    first.kill('SIGINT')
    expect(await ended(first)).toBe(130)
  })

  it('a carry over its limit, an empty one after another: the job stops', () => {
    fails('--carry kept', `sh -c 'cat; head -c 1000001 /dev/zero > $STREAM_CARRY_FILE'`, 9, [
      'the carry is 1000001 bytes, more than 1000000',
      'keep less in STREAM_CARRY_FILE',
    ])
    program.ok(
      `echo x | stream produce e; stream pipe --in e --out e2 -j e ${bounded} --carry kept -- sh -c 'cat; echo y > $STREAM_CARRY_FILE'`,
    )
    const empty = `stream pipe --in e --out e2 -j e ${bounded} --carry kept`
    const child = `sh -c 'cat; : > $STREAM_CARRY_FILE'`
    const run = program.shell(
      `echo x | stream produce e; ${empty} --on-fail stop --retry 0 -- ${child}`,
    )
    expect(run.status).toBe(9)
    expect(run.stderr).toContain('--carry-may-empty')
    program.ok(`${empty} --carry-may-empty -- ${child}`)
  })

  it('--fixed: not even a crash cuts an epoch anew', async () => {
    program.ok('seq 100 | stream produce fixed')
    const child = `echo $STREAM_BATCH_ID >> ids; cat > /dev/null; [ $STREAM_FIRST != 14 ] || [ -e again ] || sleep 100`
    const first = program.start(program.stream, [
      'pipe',
      '--in',
      'fixed',
      '-j',
      'fixed',
      '--from',
      'start',
      '--until-end',
      '--epoch',
      '7',
      '-q',
      '--',
      'sh',
      '-c',
      child,
    ])
    await eventually('the third epoch', () =>
      program.shell('grep -c . ids').stdout.trim() === '3' ? true : undefined,
    )
    first.kill('SIGKILL')
    await ended(first)
    program.ok(
      `touch again; stream pipe --in fixed -j fixed ${bounded} --epoch 50 -- sh -c '${child}'`,
    )
    const ranges = ['0-6', '7-13', '14-20', '14-20', '21-70', '71-99']
    expect(program.ok('cat ids').trim().split('\n')).toEqual(
      ranges.map((range) => `fixed/fixed/0/${range}`),
    )
  })
})

describe('pipe: flags', () => {
  it('--explain and --dry-run commit nothing', () => {
    const said = program.ok('stream pipe --in t --out x -j x --explain -- cat')
    expect(said).toContain('exactly once')
    const run = program.shell('stream pipe --in t --out x -j x --dry-run -n 2 -- jq -c .n')
    expect(run.status).toBe(0)
    expect(run.stdout.trim().split('\n')).toHaveLength(4)
    expect(program.shell('stream groups describe x').status).toBe(3)
    expect(program.shell('stream cat x').status).toBe(3)
  })

  it('what contradicts itself is refused', () => {
    for (const flags of [
      '--in t',
      '-- cat',
      '--in t --same-partition -- cat',
      '--in t --carry f -- cat',
      '--in t --out u --epoch 5,6 -- cat',
      '--in t --ctl -- cat',
      '--out u --barrier none -- cat',
      '--out u --until-end -- cat',
      "--in t --out 'u*' -- cat",
      '--in t --out u --barrier line --fixed -j x -- cat',
      '--in t --out u --dlq-max 5 -- cat',
      '--in t --out u --on-fail bisect -- cat',
    ]) {
      const run = program.shell(`stream pipe ${flags}`)
      expect(run.status, `${flags}: ${run.stderr}`).toBe(2)
    }
    expect(program.shell('stream pipe --in nowhere --out x --until-end -- cat').status).toBe(3)
  })

  it('a signal: what runs may end and is committed, the rest is not begun', async () => {
    const pipe = program.start(program.stream, [
      'pipe',
      '--in',
      't',
      '--out',
      'cut',
      '-j',
      'cut',
      '--from',
      'start',
      '--epoch',
      '500',
      '-P',
      '1',
      '-q',
      '--',
      'sh',
      '-c',
      'sleep 0.3; cat',
    ])
    await eventually('a first epoch', () =>
      program.shell('stream cat cut | head -1').stdout === '' ? undefined : true,
    )
    pipe.kill('SIGINT')
    expect(await ended(pipe)).toBe(130)
    const done = lines('cut')
    expect(done % 500).toBe(0)
    expect(done).toBeLessThan(count)
    const left = Number(program.ok('stream groups lag cut -o tsv --total | cut -f3').trim())
    expect(left + done).toBe(lines('t'))
  })
})
