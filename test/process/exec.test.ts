/** `consume --exec` by the built program: what children are given, when a record is done, and children that misbehave. */
import { readFileSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ended, eventually, Program } from '../support/program.ts'

let program: Program
let kafka = ''
beforeAll(() => {
  program = new Program({ environment: { STREAM_CONF_PRODUCE_CREATE: 'yes' } })
  program.ok(
    'stream daemon start --listen kafka://127.0.0.1:0 -X group.initial.rebalance.delay.ms=0',
  )
  kafka = program.ok("stream daemon status --json | grep -o 'kafka://[0-9.:]*'").trim()
  program.ok('seq 9 | stream produce nine')
})
afterAll(() => program?.stop())

const bounded = '--from start --until-end'
const lag = (group: string): string =>
  program.ok(`stream groups lag ${group} --total | cut -f3`).trim()
const script = (name: string, text: string): void =>
  writeFileSync(program.path(name), `#!/bin/sh\n${text}`, { mode: 0o755 })
const sorted = (text: string): number[] =>
  text
    .trim()
    .split('\n')
    .map(Number)
    .sort((left, right) => left - right)

describe('what a child is given', () => {
  it('the record on standard input, and its place, key, headers and time', () => {
    program.ok("printf 'k=1\\n' | stream produce env -K = -H h=x -H n --ts @1700000000")
    program.ok('stream produce env --value keyless')
    program.ok(`printf '{"key":{"b64":"AP8="},"value":"v"}\\n' | stream produce env --json`)
    const command =
      'echo "$STREAM_TOPIC $STREAM_PARTITION $STREAM_OFFSET $STREAM_ATTEMPT ${STREAM_KEY-none} ${STREAM_KEY_B64-none} $STREAM_HEADERS $(cat)"; echo $STREAM_TS'
    const out = program.ok(
      `STREAM_KEY=outer stream consume env -g env ${bounded} --exec '${command}'`,
    )
    const lines = out.trim().split('\n')
    expect(lines[0]).toBe('env 0 0 1 k none [["h","x"],["n",null]] 1')
    expect(lines[1]).toBe('1700000000000')
    expect(lines[2]).toBe('env 0 1 1 none none [] keyless')
    expect(lines[4]).toBe('env 0 2 1 none AP8= [] v')
  })

  it('a batch: first, last, count, in the form asked for', () => {
    const command =
      'echo "$STREAM_FIRST $STREAM_LAST $STREAM_COUNT ${STREAM_OFFSET-none}"; jq -r .value'
    const out = program.ok(
      `stream consume nine -g batch ${bounded} --batch 4 --json --exec '${command}'`,
    )
    expect(out).toBe('0 3 4 none\n1\n2\n3\n4\n4 7 4 none\n5\n6\n7\n8\n8 8 1 none\n9\n')
  })

  it('exact bytes with --raw', () => {
    program.ok(`printf 'a\\0b' | stream produce raw --raw`)
    expect(program.ok(`stream consume raw -g raw ${bounded} --raw --exec 'xxd -p'`)).toBe(
      '610062\n',
    )
  })
})

describe('when a record is done', () => {
  it.each(['', 'kafka'])('at exit 0; the next run goes on behind it %s', (door) => {
    const broker = door === '' ? '' : `-b ${kafka}`
    const consume = `stream consume nine ${broker} -g done${door} ${bounded} --exec cat`
    expect(program.ok(consume)).toBe('1\n2\n3\n4\n5\n6\n7\n8\n9\n')
    expect(program.ok(consume)).toBe('')
    expect(program.shell(`${consume} --fail-empty`).status).toBe(3)
    expect(lag(`done${door}`)).toBe('0')
  })

  it('--success names other exit codes', () => {
    const line = `stream consume nine -g success ${bounded} --success 0,1 --exec 'grep 5'`
    expect(program.ok(line)).toBe('5\n')
    expect(lag('success')).toBe('0')
  })

  it('a failure stops the run, and what is before it is committed', () => {
    const outcome = program.shell(
      `stream consume nine -g stop ${bounded} --retry 0 --exec 'v=$(cat); echo $v; [ $v != 4 ]'`,
    )
    expect(outcome.status).toBe(9)
    expect(outcome.stdout).toBe('1\n2\n3\n4\n')
    expect(outcome.stderr).toBe(
      'stream: consume: nine: partition 0: offset 3: the command failed: exit 1; to put such records aside and go on: --on-fail dlq\n',
    )
    expect(lag('stop')).toBe('6')
  })

  it('a failure is tried again, as often as --retry says', () => {
    const outcome = program.shell(
      `stream consume nine -g retry ${bounded} -n 1 --retry 5,20ms..50ms --exec 'echo $STREAM_ATTEMPT; [ $STREAM_ATTEMPT = 3 ]'`,
    )
    expect(outcome.status).toBe(0)
    expect(outcome.stdout).toBe('1\n2\n3\n')
    expect(outcome.stderr).toMatch(/exit 1; again in \d+ms \(2 of 5\)/)
  })

  it('75 is tried again without end, 255 ends the run at once', () => {
    const later = `stream consume nine -g later ${bounded} -n 1 --retry 0,10ms --exec '[ $STREAM_ATTEMPT = 4 ] || exit 75'`
    expect(program.shell(later).status).toBe(0)
    const outcome = program.shell(
      `stream consume nine -g all ${bounded} --on-fail dlq --exec 'exit 255'`,
    )
    expect(outcome.status).toBe(9)
    expect(outcome.stderr).toContain('exit 255 stops the run')
    expect(program.shell('stream topics list all.dlq').stdout).toBe('')
  })

  it('a command that is not there ends the run, whatever is to be done with failures', () => {
    const outcome = program.shell(
      `stream consume nine -g missing ${bounded} --on-fail dlq --exec ./nowhere`,
    )
    expect(outcome.status).toBe(9)
    expect(outcome.stderr).toContain('the command failed: exit 127 (command not found)')
    expect(lag('missing')).toBe('9')
  })

  it('-n, filters and --idle', () => {
    expect(program.ok(`stream consume nine -g few ${bounded} -n 2 --exec cat`)).toBe('1\n2\n')
    expect(lag('few')).toBe('7')
    expect(program.ok(`stream consume nine -g few ${bounded} --grep v:/7/ --exec cat`)).toBe('7\n')
    expect(lag('few')).toBe('0')
    expect(program.ok('stream consume nine -g few --idle 300ms --exec cat')).toBe('')
  })
})

describe('-P', () => {
  it('keeps the order of each key, and works at several keys at once', () => {
    program.ok(
      `for i in $(seq 8); do for k in a b c d; do echo "$k=$i"; done; done | stream produce keys -K =`,
    )
    program.ok(
      `stream consume keys -g keys ${bounded} -P 4 --exec 'v=$(cat); echo "start $STREAM_KEY $v" >> log; sleep 0.05; echo "end $STREAM_KEY $v" >> log'`,
    )
    const log = readFileSync(program.path('log'), 'utf8').trim().split('\n')
    let running = 0
    let most = 0
    const next = new Map<string, number>()
    for (const line of log) {
      const [what, key = '', value] = line.split(' ')
      running += what === 'start' ? 1 : -1
      most = Math.max(most, running)
      if (what === 'start') expect(Number(value)).toBe((next.get(key) ?? 0) + 1)
      else next.set(key, Number(value))
    }
    expect(most).toBe(4)
    expect([...next.values()]).toEqual([8, 8, 8, 8])
    expect(lag('keys')).toBe('0')
  })

  it('records without a key are worked on one after the other', () => {
    const out = program.ok(
      `stream consume nine -g keyless ${bounded} -P 4 --exec 'v=$(cat); sleep 0.0$((9 - v)); echo $v'`,
    )
    expect(out).toBe('1\n2\n3\n4\n5\n6\n7\n8\n9\n')
  })

  it('no line has parts of two outputs', () => {
    program.ok('for k in a b c d e f; do echo "$k=$k"; done | stream produce lines -K =')
    const out = program.ok(
      `stream consume lines -g lines ${bounded} -P 6 --exec 'v=$(cat); for i in 1 2 3; do printf $v; sleep 0.02; printf "$v\\n"; done'`,
    )
    expect(out.trim().split('\n').sort().join(' ')).toBe(
      'aa aa aa bb bb bb cc cc cc dd dd dd ee ee ee ff ff ff',
    )
  })

  it('a position is committed without gaps: a slow record holds those behind it back', () => {
    const outcome = program.shell(
      `stream consume keys -g gap ${bounded} -P 4 --retry 0 --exec '[ $STREAM_OFFSET = 2 ] && { sleep 1; exit 1; }; exit 0'`,
    )
    expect(outcome.status).toBe(9)
    expect(lag('gap')).toBe('30')
  })
})

describe('--on-fail', () => {
  it.each(['', 'kafka'])('dlq puts the bad records aside, and all others are done %s', (door) => {
    const broker = door === '' ? '' : `-b ${kafka}`
    const outcome = program.shell(
      `stream consume nine ${broker} -g aside${door} ${bounded} --retry 1,10ms --on-fail dlq --exec 'v=$(cat); case $v in 3|7) echo "no $v" >&2; exit 2;; esac; echo $v'`,
    )
    expect(outcome.status).toBe(5)
    expect(outcome.stdout).toBe('1\n2\n4\n5\n6\n8\n9\n')
    expect(outcome.stderr).toContain(
      `nine: partition 0: offset 2: exit 2: no 3 after 2 attempts; put aside in aside${door}.dlq`,
    )
    expect(outcome.stderr).toContain(
      `aside${door}.dlq: 2 records were put aside; to see why: stream dlq list aside${door}`,
    )
    expect(program.ok(`stream cat aside${door}.dlq`)).toBe('3\n7\n')
    expect(lag(`aside${door}`)).toBe('0')
  })

  it('bisect finds every 997th of many thousand records by batches', () => {
    program.ok('seq 20000 | stream produce many')
    script('every', 'awk "\\$1 % 997 == 0 { bad = 1 } END { exit bad }"')
    const outcome = program.shell(
      `stream consume many -g bisect ${bounded} --batch 500 -P 2 --retry 0 --on-fail bisect --exec 'tee part > /dev/null; ./every < part && cat part >> good'`,
      { timeoutMs: 120_000 },
    )
    expect(outcome.status).toBe(5)
    const bad = Array.from({ length: 20 }, (_, index) => 997 * (index + 1))
    expect(sorted(program.ok('stream cat bisect.dlq'))).toEqual(bad)
    const good = sorted(readFileSync(program.path('good'), 'utf8'))
    expect(good).toHaveLength(20_000 - 20)
    expect(good.some((value) => value % 997 === 0)).toBe(false)
    expect(lag('bisect')).toBe('0')
  }, 120_000)

  it('a glob that matches them does not bring its own dead letters back', () => {
    program.ok('seq 3 | stream produce loop.in')
    const line = `stream consume 'loop.*' -g loop ${bounded} --retry 0 --on-fail dlq --exec 'exit 1'`
    expect(program.shell(line).status).toBe(5)
    expect(program.shell(line).status).toBe(0)
    expect(program.ok('stream cat loop.dlq')).toBe('1\n2\n3\n')
    const own = program.shell(`stream consume loop.dlq -g loop ${bounded} --exec cat`)
    expect(own.status).toBe(2)
    expect(own.stderr).toContain('loop.dlq: belongs to the group itself')
  })
})

describe('children that misbehave', () => {
  it('one that reads nothing of a large record, and prints much', () => {
    program.ok('head -c 900000 /dev/zero | stream produce large --raw')
    const out = program.shell(
      `stream consume large -g large ${bounded} --raw --exec 'seq 3000000' | { sleep 1; md5sum; }; seq 3000000 | md5sum`,
    )
    const [ours, wanted] = out.stdout.trim().split('\n')
    expect(ours).toBe(wanted)
    expect(lag('large')).toBe('0')
  })

  it('one that exits early is done by its exit code', () => {
    expect(
      program.shell(`stream consume large -g early ${bounded} --exec 'head -c 1'`).status,
    ).toBe(0)
    expect(lag('early')).toBe('0')
  })

  it('one that runs for ever is ended by --child-timeout, and has failed', () => {
    const outcome = program.shell(
      `stream consume nine -g ever ${bounded} -n 1 --retry 0 --child-timeout 200ms --exec 'sleep 60'`,
    )
    expect(outcome.status).toBe(9)
    expect(outcome.stderr).toContain(
      'the command failed: stopped for taking too long; to give it more time: --child-timeout DUR',
    )
  })

  it('one that ignores SIGTERM is killed after the grace, and its record is done again', async () => {
    const child = program.start('stream', [
      ...'consume nine -g ignores --from start --grace 300ms --exec'.split(' '),
      'trap "" TERM; echo up; while :; do sleep 0.05; done',
    ])
    let stderr = ''
    child.stderr?.on('data', (text) => {
      stderr += text
    })
    await new Promise((resolve) => child.stdout?.once('data', resolve))
    const startMs = performance.now()
    child.kill('SIGTERM')
    expect(await ended(child)).toBe(143)
    expect(performance.now() - startMs).toBeLessThan(5000)
    expect(stderr).toContain(
      'nine: partition 0: offset 0: the command is still running 300ms later, and is ended; its records will be done again',
    )
    expect(lag('ignores')).toBe('9')
  })

  it('one at work when a signal comes has the grace to finish, and is committed', async () => {
    const child = program.start('stream', [
      ...'consume nine -g grace --from start --exec'.split(' '),
      'echo up; sleep 0.5; cat >> graced',
    ])
    await new Promise((resolve) => child.stdout?.once('data', resolve))
    child.kill('SIGINT')
    expect(await ended(child)).toBe(130)
    expect(readFileSync(program.path('graced'), 'utf8')).toBe('1\n')
    expect(lag('grace')).toBe('8')
  })

  it('one that leaves processes behind is told of, once', () => {
    const outcome = program.shell(
      `stream consume nine -g forks ${bounded} -n 2 --grace 100ms --exec 'sleep 60 > /dev/null 2>&1 & cat'`,
    )
    expect(outcome.status).toBe(0)
    expect(outcome.stderr.match(/left processes behind/g)).toHaveLength(1)
    expect(outcome.stderr).toContain('to let them finish it must wait for them (sh: wait)')
  })

  it('one that prints half a line: not a byte more or less', () => {
    expect(program.ok(`stream consume nine -g half ${bounded} --exec 'tr -d "\\n"'`)).toBe(
      '123456789',
    )
  })

  it('a key that no environment can hold: the message names the cure', () => {
    program.ok(
      `head -c 200000 /dev/zero | tr '\\0' k > key; { cat key; echo =v; } | stream produce wide -K =`,
    )
    const outcome = program.shell(`stream consume wide -g wide ${bounded} --exec cat`)
    expect(outcome.status).toBe(9)
    expect(outcome.stderr).toContain('key or headers too long for an environment; to give keys')
    const cured = `stream consume wide -g wide ${bounded} --batch 2 --json --exec 'jq -r ".key|length"'`
    expect(program.ok(cured)).toBe('200000\n')
  })

  it('a reader that goes away ends the run by SIGPIPE, without a word', () => {
    const outcome = program.shell(
      `stream consume many -g gone ${bounded} --exec cat | head -1; echo \${PIPESTATUS[0]}`,
    )
    expect(outcome.stdout).toBe('1\n141\n')
    expect(outcome.stderr).toBe('')
  })
})

describe('members of a group', () => {
  it('share the work; when one is killed or stopped the others take it over, and nothing is lost', async () => {
    program.ok('stream topics create shared --partitions 6')
    program.ok('seq 1 600 | sed "s/.*/k&=&/" | stream produce shared -K =')
    const args = [
      ...'consume shared -g shared --from start -P 2 -X session.timeout.ms=6000 --exec'.split(' '),
      'cat >> shared.done; sleep 0.02',
    ]
    const members = [1, 2, 3].map(() => program.start('stream', args))
    const done = (): number =>
      program.ok('cat shared.done 2> /dev/null | wc -l | tr -d " "') as never
    await eventually('some are done', () => (Number(done()) > 100 ? true : undefined))
    members[0]?.kill('SIGKILL')
    members[1]?.kill('SIGTERM')
    await eventually('all are done', () => (lag('shared') === '0' ? true : undefined), 60_000)
    members[2]?.kill('SIGTERM')
    expect(await Promise.all(members.map((member) => ended(member)))).toEqual([137, 143, 143])
    const values = sorted(readFileSync(program.path('shared.done'), 'utf8'))
    expect(new Set(values).size).toBe(600)
    // Done twice is only what the killed one had in hand, or not committed yet.
    expect(values.length).toBeLessThan(640)
  }, 120_000)

  it('kill -9 at any time: each bad record is put aside once, each good one is done', async () => {
    program.ok('seq 300 | stream produce killed')
    const line = `exec stream consume killed -g killed ${bounded} -X session.timeout.ms=6000 --instance-id one --retry 0 --on-fail dlq --exec 'v=$(cat); [ $((v % 10)) != 0 ] && echo $v >> killed.good'`
    for (let round = 0; round < 8; round += 1) {
      const child = program.start('bash', ['-c', line])
      const end = ended(child)
      const timer = setTimeout(() => child.kill('SIGKILL'), 250 + Math.random() * 500)
      await end
      clearTimeout(timer)
    }
    expect([0, 5]).toContain(program.shell(line).status)
    expect(lag('killed')).toBe('0')
    const bad = Array.from({ length: 30 }, (_, index) => 10 * (index + 1))
    expect(sorted(program.ok('stream cat killed.dlq'))).toEqual(bad)
    expect(new Set(sorted(readFileSync(program.path('killed.good'), 'utf8'))).size).toBe(270)
  }, 120_000)
})

it('kill -9 of the daemon at any time: the run goes on, and what is bad is put aside once', async () => {
  const own = new Program({ environment: { STREAM_CONF_PRODUCE_CREATE: 'yes' } })
  try {
    const start = 'stream daemon start -X group.initial.rebalance.delay.ms=0'
    own.ok(`${start}; stream topics create in --partitions 3`)
    own.ok('seq 1500 | sed "s/.*/k&=&/" | stream produce in -K =')
    const child = own.start('stream', [
      ...'consume in -g g --from start -P 2 --retry 0 --on-fail dlq --exec'.split(' '),
      'v=$(cat); [ $((v % 10)) != 0 ] && echo $v >> good',
    ])
    for (let round = 0; round < 3; round += 1) {
      await new Promise((resolve) => setTimeout(resolve, 500 + Math.random() * 700))
      process.kill(own.daemonPid(), 'SIGKILL')
      own.ok(start)
    }
    const left = (): string => own.shell('stream groups lag g --total | cut -f3').stdout.trim()
    await eventually('all is done', () => (left() === '0' ? true : undefined), 60_000)
    child.kill('SIGTERM')
    expect(await ended(child)).toBe(143)
    const bad = Array.from({ length: 150 }, (_, index) => 10 * (index + 1))
    expect(sorted(own.ok('stream cat g.dlq'))).toEqual(bad)
    expect(new Set(sorted(readFileSync(own.path('good'), 'utf8'))).size).toBe(1350)
  } finally {
    own.stop()
  }
}, 120_000)

describe('refused', () => {
  it.each([
    ['--exec cat', '--exec needs --group'],
    ['-g x --exec ""', 'the command must not be empty'],
    ['-g x -P 2', '--parallel needs --exec'],
    ['-g x --retry 1', '--retry needs --exec'],
    ['-g x --exec cat --retry often', '--retry often: must be'],
    ['-g x --exec cat --success no', '--success no: must be'],
    ['-g x --exec cat --batch 0', '--batch 0: must be'],
    ['-g x --exec cat --on-fail bisect', '--on-fail bisect halves batches'],
    ['-g x --exec cat --commit written', '--commit and --exec cannot'],
    ['--cursor-file f --exec cat', '--exec needs --group'],
  ])('%s', (flags, words) => {
    const outcome = program.shell(`stream consume nine ${flags}`)
    expect(outcome.status).toBe(2)
    expect(outcome.stderr).toContain(words)
    expect(outcome.stdout).toBe('')
  })
})
