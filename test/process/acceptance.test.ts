/** The acceptance checks of the command line's contract that concern one daemon, without groups and transactions. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Program } from '../support/program.ts'

describe('acceptance: lines a user types', () => {
  let program: Program
  beforeAll(() => {
    program = new Program({ environment: { STREAM_CONF_PRODUCE_CREATE: 'yes' } })
    program.ok('yes | head -100000 | stream produce t')
  })
  afterAll(() => program.stop())

  it('1: what a pipe put in comes out', () => {
    expect(program.ok('stream cat t | wc -l').trim()).toBe('100000')
  })

  it('2: a reader that goes away ends the command by SIGPIPE, silently', () => {
    const outcome = program.shell('stream cat t | head -1; echo ${PIPESTATUS[0]}')
    expect(outcome.stdout).toBe('y\n141\n')
    expect(outcome.stderr).toBe('')
  })

  it('3: raw takes all of standard input as one record', () => {
    program.ok('head -c 1000000 /dev/urandom > r; stream produce raw --raw < r')
    expect(program.shell('stream cat raw --raw | cmp - r').status).toBe(0)
    expect(program.ok('stream topics describe raw --json | jq -r .v')).not.toBe('')
  })

  it('4: empty lines, carriage returns and bytes that are no UTF-8 are kept', () => {
    program.ok(String.raw`printf 'a\n\nb\r\n\xff\xfe' | stream produce m`)
    expect(program.ok('stream cat m --raw | xxd -p').trim()).toBe('61620dfffe')
    expect(program.ok('stream cat m --json | jq -c .value | tail -1').trim()).toBe('{"b64":"//4="}')
  })

  it('6: the envelope carries keys, values, headers, times and partitions exactly', () => {
    program.ok('stream topics create any --partitions 3; stream topics create copy --partitions 3')
    const lines = [
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
        key: '',
        ts: 1700000000123,
        headers: [[{ b64: '/w==' }, { b64: 'gA==' }]],
      },
    ]
    for (let partition = 0; partition < 3; partition++)
      program.ok(`stream produce any --json -p ${partition}`, {
        input: lines.map((line) => `${JSON.stringify(line)}\n`).join(''),
      })
    program.ok('stream cat any --json | stream produce copy --json --keep-partition')
    const strip = "jq -c 'del(.topic)'"
    const before = program.ok(`stream cat any --json | ${strip} | sort`)
    expect(before.split('\n').length).toBe(16)
    expect(program.ok(`stream cat copy --json | ${strip} | sort`)).toBe(before)
  })

  it('8: an empty topic ends at once, 0; with --fail-empty 3', () => {
    program.ok('stream topics create e')
    expect(program.shell('stream cat e').status).toBe(0)
    expect(program.shell('stream cat e --fail-empty').status).toBe(3)
  })

  it('9: a line without its key stops the run, after what stood before it was delivered', () => {
    const outcome = program.shell(String.raw`printf 'k\tv\nbad\n' | stream produce k -K '\t'`)
    expect(outcome.status).toBe(5)
    expect(outcome.stderr).toContain('line 2: no key separator')
    expect(outcome.stdout).toBe('')
    expect(program.ok('stream cat k')).toBe('v\n')
  })

  it('10: empty input is no record', () => {
    program.ok('stream produce z < /dev/null; stream produce z --raw < /dev/null')
    expect(program.ok('stream cat z | wc -l').trim()).toBe('0')
  })

  it('11: --value is safe inside while read', () => {
    program.ok('seq 1 12 > f; while read -r x; do stream produce w --value "$x"; done < f')
    expect(program.shell('stream cat w | cmp - f').status).toBe(0)
  })

  it('12: a full disk under standard output is one line and exit 1', () => {
    const outcome = program.shell('stream cat t > /dev/full')
    expect(outcome.status).toBe(1)
    expect(outcome.stderr.trim().split('\n')).toHaveLength(1)
  })

  it('13: no colour with NO_COLOR, not even on a terminal', () => {
    expect(
      program
        .shell(`NO_COLOR=1 script -qc 'stream topics list' /dev/null | grep -c $'\\e'`)
        .stdout.trim(),
    ).toBe('0')
  })

  it('14: a named broker that is not there is 4, and nothing is started', () => {
    expect(program.shell('stream topics list -b ipc:///tmp/none.sock').status).toBe(4)
  })

  it('15: deleting without a terminal and without -y is refused, 2, and nothing happens', () => {
    expect(program.shell('stream topics delete t < /dev/null').status).toBe(2)
    expect(program.ok('stream topics list t | cut -f1').trim()).toBe('t')
  })

  it('16: creating twice is 8, with --if-not-exists 0', () => {
    program.ok('stream topics create x')
    expect(program.shell('stream topics create x').status).toBe(8)
    expect(program.shell('stream topics create x --if-not-exists').status).toBe(0)
  })

  it('19: --idle ends with 0, --timeout with 7', () => {
    expect(program.shell('stream consume t --idle 1s').status).toBe(0)
    const outcome = program.shell('stream consume t --timeout 1s')
    expect(outcome.status, outcome.stderr).toBe(7)
  })

  it('21: a line is sent as it comes, and a reader may wait for the topic', () => {
    const outcome = program.shell(
      '(echo a; sleep 3) | stream produce i & stream consume i -n 1 --from start --wait-topic --timeout 2900ms; status=$?; wait; exit $status',
    )
    expect(outcome.stdout).toBe('a\n')
    expect(outcome.status).toBe(0)
  })

  it('33: a daemon that dies leaves a report that does not promise too much', () => {
    const outcome = program.shell(
      'yes | stream produce k9 --delivery-timeout 3s --report r & sleep 1; kill -9 $(stream daemon status --json | jq .pid); wait $!; echo $?',
      { environment: { STREAM_AUTOSTART: '0' } },
    )
    expect(outcome.stdout.trim()).toBe('5')
    const through = Number(program.ok('jq .through_line r').trim())
    expect(through).toBeGreaterThan(0)
    expect(Number(program.ok('stream cat k9 | wc -l').trim())).toBeGreaterThanOrEqual(through)
  })

  it('34: rows are not cut however slow their reader', () => {
    for (let index = 0; index < 4; index++)
      program.ok(`stream topics create wide${index} --partitions 200`)
    const outcome = program.shell(
      "stream topics describe '*' --json | (sleep 1; jq -e .v > /dev/null); echo ${PIPESTATUS[0]} $?",
    )
    expect(outcome.stdout.trim()).toBe('0 0')
  })

  it('35: a secret in a flag is refused and printed nowhere', () => {
    const outcome = program.shell('stream -X sasl.password=s3cret topics list')
    expect(outcome.status).toBe(2)
    expect(outcome.stdout + outcome.stderr).not.toContain('s3cret')
  })

  it('without any configuration: 1000 lines through a daemon that starts itself', () => {
    const fresh = new Program()
    try {
      expect(fresh.ok('seq 1000 | stream produce numbers && stream cat numbers | tail -1')).toBe(
        '1000\n',
      )
    } finally {
      fresh.stop()
    }
  })
})
