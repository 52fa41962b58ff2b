/** `produce` on the built program: single records that the broker refuses, in the middle of full batches. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Program } from '../support/program.ts'

let program: Program

beforeAll(() => {
  program = new Program()
  program.ok('stream daemon start')
  program.ok(
    `seq 10000 | sed 's/.*/{"value":"&"}/; 5000s/.*/{"value":"bad","ts":99999999999999}/' > input`,
  )
  program.ok('seq 10000 | sed 5000d > others')
})
afterAll(() => program?.stop())

function produced(topic: string, flags: string): { exit: number; stderr: string; report: object } {
  const line = `stream produce ${topic} --json ${flags} --report report input`
  const run = program.shell(line)
  const report = JSON.parse(program.ok('cat report')) as object
  return { exit: run.status, stderr: run.stderr, report }
}

describe('a record that the broker refuses', () => {
  it.each([
    ['skip', '', ''],
    ['dead-letter=letters', '', '"value":"bad"'],
    ['skip', '--acks 1', ''],
    ['skip', '--batch-size 2KiB --compression gzip', ''],
  ])('--on-error %s %s: it alone is left out', (policy, flags, letter) => {
    const topic = `left-${program.ok('stream topics list | wc -l').trim()}`
    const run = produced(topic, `--on-error ${policy} --allow-errors 1 ${flags}`)
    expect(run.stderr).toContain('line 5000: ')
    expect(run.exit).toBe(0)
    expect(run.report).toMatchObject({ records: 9999, errors: 1, through_line: 10_000 })
    expect(program.shell(`stream cat ${topic} | cmp - others`).status).toBe(0)
    if (letter === '') return
    expect(program.ok('cat letters')).toContain(letter)
    expect(program.ok('wc -l < letters').trim()).toBe('1')
  })

  it('--on-error stop: those before it are delivered', () => {
    const run = produced('stopped', '')
    expect(run.stderr).toContain('line 5000: ')
    expect(run.exit).toBe(5)
    expect(run.report).toMatchObject({ records: 4999, errors: 1, through_line: 4999 })
    expect(program.shell('stream cat stopped | cmp - <(seq 4999)').status).toBe(0)
  })

  it('--receipts tell the others, in input order', () => {
    produced('told', '--on-error skip --receipts receipts')
    expect(program.shell('cut -f3 receipts | cmp - <(seq 0 9998)').status).toBe(0)
  })
})

it('a record that is too large is an error of that record, not of the run', () => {
  program.ok(`{ seq 100; head -c 2000000 /dev/zero | tr '\\0' x; echo; seq 100; } > long`)
  const run = program.shell('stream produce long --on-error skip --allow-errors 1 --report r long')
  expect(run.status).toBe(0)
  expect(run.stderr).toContain('line 101: ')
  expect(JSON.parse(program.ok('cat r'))).toMatchObject({ records: 200, through_line: 201 })
  expect(program.ok('stream cat long | wc -l').trim()).toBe('200')
})

it.each([
  ['-K " "', 2],
  ['-z zstd', 1],
  ['--atomic', 1],
  ['--acks 1', 1],
  ['--resume import --chunk 50000', 3],
])('batches are made small enough for the topic: %s', (flags, partitions) => {
  const topic = `small-${program.ok('stream topics list --internal | wc -l').trim()}`
  program.ok(
    `stream topics create ${topic} --partitions ${partitions} --set max.message.bytes=5000`,
  )
  program.ok('seq 100000 | sed "s/.*/& &/" > pairs')
  const run = program.shell(`stream produce ${topic} ${flags} --report r pairs`)
  expect(run).toMatchObject({ status: 0, stderr: '' })
  expect(JSON.parse(program.ok('cat r'))).toMatchObject({ records: 100_000, errors: 0 })
  const numbers = `stream cat ${topic} --json | jq -r .value | awk '{print $NF}'`
  expect(program.shell(`${numbers} | sort -n | cmp - <(seq 100000)`).status).toBe(0)
  if (partitions > 1) return
  expect(program.shell(`stream cat ${topic} | cmp - pairs`).status).toBe(0)
})
