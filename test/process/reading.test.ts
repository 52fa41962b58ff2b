/** Topics large enough for the kernels and for reading the daemon's files, seen by a user of the built program. */
import { writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Program } from '../support/program.ts'

let program: Program

/** Lines of 1 to 400 bytes and now and then a very long one, 12 MB in all. */
function manyLines(): string {
  const lines: string[] = []
  let bytes = 0
  for (let index = 0; bytes < 12_000_000; index++) {
    const length = index % 20_000 === 19_999 ? 700_000 : (index * 7919) % 400
    const line = `${index} "quoted" \\ é ${'x'.repeat(length)}`
    bytes += line.length
    lines.push(line)
  }
  return `${lines.join('\n')}\n`
}

beforeAll(() => {
  program = new Program()
  writeFileSync(program.path('lines'), manyLines())
  program.ok('stream topics create big; stream produce big < lines')
})
afterAll(() => program?.stop())

describe('a large topic', () => {
  it('comes back byte for byte, through a pipe, into a file, and to a slow reader', () => {
    program.ok('stream cat big | cmp - lines')
    program.ok('stream cat big > copy && cmp copy lines')
    program.ok('stream cat big | (sleep 1; head -c 3000000; sleep 0.3; cat) | cmp - lines')
  })

  it('comes back from any position, to any other, and in any number', () => {
    program.ok(
      `set -e
       stream cat big --from 12345 | cmp - <(tail -n +12346 lines)
       stream cat big --from 12345 --until 34567 | cmp - <(sed -n 12346,34567p lines)
       stream cat big -n 23456 | cmp - <(head -n 23456 lines)
       stream cat big --bytes 3000000 | head -c 2999000 | cmp - <(head -c 2999000 lines)`,
    )
  })

  it('as envelopes is what is written record by record', () => {
    // No value is a JSON object, so that --embed changes nothing but the way it is printed.
    program.ok('cmp <(stream cat big --json) <(stream cat big --json --embed)')
    program.ok(
      'set -e; stream topics create again; stream cat big --json | stream produce again --json; stream cat again | cmp - lines',
    )
  })

  it('with keys, headers, nulls and binary values too', () => {
    const records: string[] = []
    for (let index = 0; index < 30_000; index++) {
      const key = index % 3 === 0 ? null : `k"${index % 100}`
      const value = index % 7 === 0 ? { b64: '//79/A==' } : `värld ${'y'.repeat(index % 150)}`
      const headers =
        index % 2 === 0
          ? []
          : [
              ['h', String(index)],
              ['n', null],
            ]
      records.push(
        JSON.stringify({
          key,
          value: index % 11 === 0 ? null : value,
          headers,
          ts: 1.7e12 + index,
        }),
      )
    }
    writeFileSync(program.path('records'), `${records.join('\n')}\n`)
    program.ok('stream topics create mixed; stream produce mixed --json < records')
    program.ok('cmp <(stream cat mixed --json) <(stream cat mixed --json --embed)')
    expect(program.ok('stream cat mixed --json | wc -l').trim()).toBe('30000')
    program.ok(
      `stream cat mixed --null-value NULL | cmp - <(stream cat mixed --null-value NULL --rate 100000000/s)`,
    )
  })

  it('of several partitions each comes in order', () => {
    program.ok(
      `set -e
       stream topics create spread --partitions 3
       for p in 0 1 2; do stream produce spread -p $p < lines; done
       for p in 0 1 2; do stream cat spread -p $p | cmp - lines; done
       cmp <(stream cat spread | sort) <(cat lines lines lines | sort)`,
    )
  })

  it('a reader that goes away ends it by SIGPIPE, in every form', () => {
    for (const flags of ['', '--json', '-0'])
      expect(
        program.ok(
          `stream cat big ${flags} | head -c 1000000 >/dev/null; echo "\${PIPESTATUS[*]}"`,
        ),
      ).toBe('141 0\n')
  })

  it('a delimiter inside of a late value is found', () => {
    const outcome = program.shell(
      `stream topics create late >/dev/null; stream produce late < lines
       echo '{"value":"two\\nlines"}' | stream produce late --json; stream cat late --strict | tail -2`,
    )
    expect(outcome.stdout).toBe('two\nlines\n')
    expect(outcome.stderr).toMatch(/contains the delimiter/)
    expect(program.shell('stream cat late --strict >/dev/null').status).toBe(5)
    expect(program.shell('stream cat big --strict >/dev/null').status).toBe(0)
  })

  it('takes no more than 150 MB of memory, however slow its reader', () => {
    const peak = (flags: string) =>
      Number(
        program.ok(
          `mkfifo slow; (sleep 1; cat slow >/dev/null) & stream cat spread ${flags} > slow & pid=$!
           peak=0; while kill -0 $pid 2>/dev/null; do
             now=$(grep -oP 'VmHWM:\\s*\\K\\d+' /proc/$pid/status 2>/dev/null || echo 0)
             [ "\${now:-0}" -gt $peak ] && peak=$now; sleep 0.02; done
           wait; rm slow; echo $peak`,
        ),
      )
    for (const flags of ['', '--json']) {
      const kilobytes = peak(flags)
      expect(kilobytes).toBeGreaterThan(20_000)
      expect(kilobytes).toBeLessThan(150_000)
    }
  })
})
