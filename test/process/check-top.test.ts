/** `stream check` and `stream top` by the built program: what scripts and monitoring systems see. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Program } from '../support/program.ts'

describe('check', () => {
  let program: Program
  beforeAll(() => {
    program = new Program({ environment: { STREAM_CONF_PRODUCE_CREATE: 'yes' } })
  })
  afterAll(() => program?.stop())

  it('starts nothing: without a daemon it is 4, for a monitoring system unknown', () => {
    expect(program.shell('stream check')).toMatchObject({ status: 4, stdout: '' })
    expect(program.shell('stream check topic t').status).toBe(4)
    const plugin = program.shell('stream check --nagios')
    expect(plugin).toMatchObject({ status: 3, stderr: '' })
    expect(plugin.stdout).toMatch(/^STREAM UNKNOWN - no daemon is running/)
    expect(program.shell('stream daemon status').status).toBe(4)
  })

  it('tells a healthy daemon and cluster', () => {
    program.ok('seq 1000 | stream produce t; stream consume t -g g --until-end -n 10 > /dev/null')
    expect(program.ok('stream check | cut -f1,2,4')).toBe(
      'ok\tstate\tRUNNING\nok\tdamaged\t0\nok\tdiffering\t0\n',
    )
    expect(program.ok('stream check cluster | cut -f1,2')).toBe(
      'ok\tbrokers\nok\tcontroller\nok\tunavailable\nok\tunder_replicated\nok\tunder_min_isr\n',
    )
  })

  it('judges the span of a topic and the lag of a group', () => {
    expect(program.ok('stream check topic t --crit 1000 | grep span')).toBe(
      'ok\tspan\tt\t1000\t1000\n',
    )
    const late = program.shell('stream check group g --warn 100 --crit 500')
    expect(late.status).toBe(1)
    expect(late.stdout).toContain('crit\tlag\tg\t990\t500\n')
    expect(program.shell('stream check group g --warn 100 --crit 5000').stdout).toContain(
      'warn\tlag\tg\t990\t100\n',
    )
    expect(program.shell('stream check group g --inactive 1ms; sleep 1').stdout).toContain(
      'inactive\tg\t',
    )
    expect(program.ok('stream check topic t --inactive 1h | grep inactive')).toMatch(
      /^ok\tinactive\tt\t\d+\t3600\n$/,
    )
  })

  it('exits as a plugin does, with one line', () => {
    for (const [flags, status, words] of [
      ['--crit 5000', 0, 'STREAM OK - '],
      ['--warn 100', 1, "STREAM WARNING - lag of g is 990 (limit 100) | 'g members'=0;"],
      ['--crit 100', 2, 'STREAM CRITICAL - lag of g is 990 (limit 100)'],
    ] as const) {
      const outcome = program.shell(`stream check group g ${flags} --nagios`)
      expect(outcome.status).toBe(status)
      expect(outcome.stdout.startsWith(words)).toBe(true)
      expect(outcome.stdout.match(/\n/g)).toHaveLength(1)
    }
    expect(program.shell('stream check group nobody --nagios').status).toBe(3)
  })

  it('prints metrics that promtool would take', () => {
    const text = program.ok('stream check topic t --prometheus')
    for (const line of text.trimEnd().split('\n')) {
      expect(line).toMatch(
        /^# (HELP|TYPE) stream_check_\w+ .+$|^stream_check_\w+\{(\w+="[^"]*",?)+\} -?\d+$/,
      )
    }
    expect(text).toContain('stream_check_value{check="span",target="t"} 1000\n')
  })

  it.each([
    ['topik t', 'topik: not one of daemon, cluster, topic, group'],
    ['topic', 'NAME is missing'],
    ['cluster x', 'takes no name'],
    ['daemon --crit 1', 'nothing to count'],
    ['cluster --inactive 1m', 'of a topic or a group'],
    ['group g --warn 5 --crit 4', '--warn 5 is above --crit 4'],
    ['--nagios --prometheus', 'cannot be used together'],
  ])('refuses %s', (words, message) => {
    const outcome = program.shell(`stream check ${words}`)
    expect(outcome).toMatchObject({ status: 2, stdout: '' })
    expect(outcome.stderr).toContain(message)
  })

  it('an unknown topic is 3, with the nearest name', () => {
    const outcome = program.shell('stream produce orders --value x; stream check topic ordesr')
    expect(outcome.status).toBe(3)
    expect(outcome.stderr).toContain('did you mean orders?')
  })

  it('top without a terminal: rows each time, with rates from the second on', () => {
    const lines = program
      .ok('(sleep 0.5; seq 5000 | stream produce t) & stream top -n 2 --every 2s; wait')
      .trimEnd()
      .split('\n')
      .map((line) => line.split('\t'))
    const topics = lines.filter(([kind, name]) => kind === 'topic' && name === 't')
    expect(topics.map((cells) => cells[2])).toEqual(['-', expect.stringMatching(/^[1-9]\d*$/)])
    expect(topics.map((cells) => cells[3])).toEqual(['1000', '6000'])
    expect(lines).toContainEqual(['group', 'g', '0', '-', '-', '5990', 'Empty,0'])
    expect(lines.filter(([kind]) => kind === 'broker')).toHaveLength(2)
    expect(program.shell('stream top --timeout 1s').status).toBe(7)
  })
})
