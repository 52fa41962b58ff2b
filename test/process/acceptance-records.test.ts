/** The acceptance checks of the command line's contract that concern records as text, on the built program. */
import { writeFileSync } from 'node:fs'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Program } from '../support/program.ts'

const whole = '%K{big32}%k%V{big32}%v%d{big64}%H{big32}%h{%K{big32}%k%V{big32}%v}'

/** Arbitrary bytes everywhere, the same for one seed. */
function anyEnvelopes(count: number): string {
  const bytes = fc
    .uint8Array({ maxLength: 40 })
    .map((array) => ({ b64: Buffer.from(array).toString('base64') }))
  const envelope = fc.record({
    key: fc.option(bytes),
    value: fc.option(bytes),
    headers: fc.array(fc.tuple(fc.oneof(bytes, fc.constant('h')), fc.option(bytes)), {
      maxLength: 3,
    }),
    ts: fc.integer({ min: 0, max: 1_700_000_000_000 }),
  })
  return fc
    .sample(envelope, count)
    .map((record) => `${JSON.stringify(record)}\n`)
    .join('')
}

describe('acceptance: records as text', () => {
  let program: Program
  beforeAll(() => {
    program = new Program({ environment: { STREAM_CONF_PRODUCE_CREATE: 'yes' } })
    program.ok(String.raw`printf 'a\n\nb\r\n\xff\xfe' | stream produce m`)
    program.ok('stream topics create any --partitions 3')
    writeFileSync(program.path('any.ndjson'), anyEnvelopes(400))
    program.ok('for p in 0 1 2; do stream produce any --json -p $p < any.ndjson; done')
  })
  afterAll(() => program.stop())

  it('5: lengths by the format language', () => {
    expect(program.ok("stream cat m -F '%V,'")).toBe('1,0,2,2,')
  })

  it('6: envelopes carry everything, and verify says so', () => {
    program.ok('stream topics create copy --partitions 3')
    program.ok('stream cat any --json | stream produce copy --json --keep-partition')
    const outcome = program.shell('stream verify any copy --offsets')
    expect(outcome).toMatchObject({ status: 0, stderr: '' })
    expect(outcome.stdout).toBe('0\t400\t400\t400\n1\t400\t400\t400\n2\t400\t400\t400\n')
  })

  it('7: the format with all lengths carries everything', () => {
    program.ok(`stream cat any -F '${whole}' | stream produce copy7 -F '${whole}'`)
    const outcome = program.shell('stream verify any copy7 --any-order')
    expect(outcome).toMatchObject({ status: 0, stdout: '-\t1200\t1200\t1200\n' })
    const partitions = `%p{little16}${whole}`
    program.ok('stream topics create copy7p --partitions 3')
    program.ok(`stream cat any -F '${partitions}' | stream produce copy7p -F '${partitions}'`)
    expect(program.shell('stream verify any copy7p').status).toBe(0)
  })

  it('the other forms carry values through pipes, byte for byte', () => {
    program.ok('stream cat any -o sized | stream produce sized -i sized')
    const values = "stream cat any -F '%V %v{base64}\\n' | sort"
    expect(program.ok("stream cat sized -F '%V %v{base64}\\n' | sort")).toBe(program.ok(values))
    program.ok("stream cat any -F '%v{hex,null=-}\\n' | stream produce hex -F '%v{hex,null=-}\\n'")
    expect(program.ok("stream cat hex -F '%V %v{base64}\\n' | sort")).toBe(program.ok(values))
    program.ok(
      'stream cat any -F "%k{json}\\x01%v{json}\\n" | stream produce js -F "%k{json}\\x01%v{json}\\n"',
    )
    expect(program.shell('stream verify any js --any-order --ignore ts,headers').status).toBe(0)
    const delimited = "stream cat any --grep '!v:/\\x00|--/' -F '%V{ascii}:%v{base64}\\n'"
    expect(program.ok(`${delimited} | wc -l`).trim()).not.toBe('0')
    for (const flag of ['-0', "-D '<--!-->'"]) {
      const topic = flag === '-0' ? 'nul' : 'text'
      const grep = flag === '-0' ? String.raw`--grep '!v:/\x00/'` : "--grep '!v:/<--!-->/'"
      program.ok(`stream cat any ${grep} --grep 'v:/./s' ${flag} | stream produce ${topic} ${flag}`)
      expect(program.ok(`stream cat ${topic} -F '%v{base64}\\n' | sort`)).toBe(
        program.ok(`stream cat any ${grep} --grep 'v:/./s' -F '%v{base64}\\n' | sort`),
      )
    }
  })

  it('verify: a file, standard input, a difference', () => {
    program.ok('stream cat any --json > o.ndjson')
    expect(program.shell('stream verify any file:o.ndjson --offsets').status).toBe(0)
    expect(program.shell('stream cat any --json | stream verify - any').status).toBe(0)
    program.ok('stream topics create fewer --partitions 3')
    program.ok('head -n 1000 o.ndjson | stream produce fewer --json --keep-partition')
    const outcome = program.shell('stream verify any fewer')
    expect(outcome.status).toBe(1)
    expect(outcome.stdout.split('\n')).toHaveLength(4)
    expect(outcome.stderr.trim().split('\n')).toHaveLength(3)
  })

  it('17: a key that is not there', () => {
    expect(program.shell('stream get m nokey')).toMatchObject({ status: 3, stdout: '', stderr: '' })
    program.ok(String.raw`printf 'k:1\nk:2\nj:3\n' | stream produce keyed -K :`)
    expect(program.ok('stream get keyed k')).toBe('2\n')
    expect(program.ok("stream get keyed k --history -F '%o %v\\n'")).toBe('0 1\n1 2\n')
  })

  it('18: an append that expects another end appends nothing', () => {
    program.ok('seq 3 | stream produce cas')
    const outcome = program.shell('stream produce cas -p 0 --value x --expect-offset 5')
    expect(outcome.status).toBe(8)
    expect(outcome.stderr.trim().split('\n')).toHaveLength(1)
    expect(outcome.stderr).toContain('ends at 3, not at 5')
    program.ok('seq 4 6 | stream produce cas --expect-offset 3 --receipts r')
    expect(program.ok('cat r; stream cat cas | tail -1')).toBe(
      'cas\t0\t3\ncas\t0\t4\ncas\t0\t5\n6\n',
    )
    const race = 'for i in 1 2 3 4; do stream produce cas --value $i --expect-offset 6 & done; wait'
    program.shell(race)
    expect(program.ok('stream cat cas | wc -l').trim()).toBe('7')
    expect(
      program.shell(
        'head -c 3000000 /dev/zero | tr "\\0" "\\n" | stream produce cas --expect-offset 7',
      ).status,
    ).toBe(5)
    expect(program.ok('stream cat cas | wc -l').trim()).toBe('7')
  })

  it('29: a cursor file goes on where the last run ended', () => {
    program.ok('seq 3 | stream produce c')
    expect(program.ok('stream consume c --cursor-file p --until-end')).toBe('1\n2\n3\n')
    program.ok('echo new | stream produce c')
    expect(program.ok('stream consume c --cursor-file p --until-end')).toBe('new\n')
    program.ok('stream topics delete c -y; echo other | stream produce c')
    const outcome = program.shell('stream consume c --cursor-file p --until-end')
    expect(outcome).toMatchObject({ status: 8, stdout: '' })
    expect(outcome.stderr).toContain('deleted and created again')
  })

  it('a second run with one cursor file is 8', () => {
    const outcome = program.shell(
      'stream consume m --cursor-file q --idle 3s > /dev/null & sleep 1; stream consume m --cursor-file q --until-end; status=$?; wait; exit $status',
    )
    expect(outcome.status).toBe(8)
    expect(outcome.stderr).toContain('locked by another run')
  })

  it('acknowledgements through a descriptor: what is not acknowledged comes again', () => {
    program.ok('seq 5 | stream produce acked; mkfifo acks')
    const line =
      'stream consume acked --cursor-file a --from start --until-end --commit ack --ack-fd 3 3< <(cat acks) | (n=0; while read -r x && [ $n -lt LIMIT ]; do n=$((n+1)); echo $n; done) > acks; echo ${PIPESTATUS[0]}'
    const first = program.shell(line.replace('LIMIT', '3'))
    expect(first.stdout.trim(), first.stderr).toBe('5')
    expect(program.ok('stream consume acked --cursor-file a --until-end --commit none')).toBe(
      '4\n5\n',
    )
    const second = program.shell(line.replace('LIMIT', '9'))
    expect(second.stdout.trim(), second.stderr).toBe('0')
    expect(program.ok('stream consume acked --cursor-file a --until-end')).toBe('')
  })

  it('tail: the last by time, and on', () => {
    program.ok('seq 100 | stream produce tailed')
    expect(program.ok('stream tail tailed -n 2')).toBe('99\n100\n')
    const outcome = program.shell(
      '(sleep 1; echo live | stream produce tailed) & stream tail -f tailed -n 1 --idle 3s; wait',
    )
    expect(outcome.stdout).toBe('100\nlive\n')
    const drawn = program.shell(
      "script -qc 'stty cols 40; stream tail tailed -n 1' /dev/null",
    ).stdout
    expect(drawn).toContain('\x1b[2m')
    expect(drawn).toContain('live')
    const plain = program.shell("NO_COLOR=1 script -qc 'stream tail tailed -n 1' /dev/null").stdout
    expect(plain).not.toContain('\x1b')
  })

  it('a dead letter can be produced again', () => {
    const line = String.raw`printf '{"a":1}\nnot json\n{"b":2}\n' | stream produce strict --require json --on-error dead-letter=dead`
    expect(program.shell(line).status).toBe(5)
    expect(program.ok('cat dead')).toBe('not json\n')
    expect(program.ok('stream produce strict dead; stream cat strict | tail -1')).toBe('not json\n')
  })
})
