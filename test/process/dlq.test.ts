/** `stream dlq` by the built program: dead letters of `consume --exec` listed, shown, given back, dropped. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { ended, eventually, Program } from '../support/program.ts'

let program: Program
let kafka = ''
beforeAll(() => {
  program = new Program({ environment: { STREAM_CONF_PRODUCE_CREATE: 'yes' } })
  program.ok(
    'stream daemon start --listen kafka://127.0.0.1:0 -X group.initial.rebalance.delay.ms=0',
  )
  kafka = program.ok("stream daemon status --json | grep -o 'kafka://[0-9.:]*'").trim()
  program.ok('seq 9 | sed "s/.*/k&=&/" | stream produce nine -K =')
})
afterAll(() => program?.stop())

/** Counts up, so that each test has a job of its own. */
let number = 0
let job = ''
beforeEach(() => {
  number += 1
  job = `job${number}`
})

const bounded = '--from start --until-end'
const fail = (topic = 'nine', broker = ''): void => {
  const run = `stream consume ${topic} ${broker} -g ${job} ${bounded} --retry 0 --batch 1000 --on-fail dlq`
  expect(program.shell(`${run} --exec 'echo "cannot do it" >&2; exit 4'`).status).toBe(5)
}
const counts = (): string => program.ok(`stream dlq list '${job}*' | cut -f2-4`).trim()
const sorted = (text: string): number[] =>
  text
    .trim()
    .split('\n')
    .map(Number)
    .sort((left, right) => left - right)

describe('list and show', () => {
  it.each(['', 'kafka'])('count by state and by error; records in all forms %s', (door) => {
    const broker = door === '' ? '' : `-b ${kafka}`
    fail('nine', broker)
    const [line = ''] = program.ok(`stream dlq list ${broker}`).split('\n').slice(-2)
    expect(line.split('\t').slice(0, 4)).toEqual([job, '9', '0', '0'])
    expect(line.split('\t')[4]).toMatch(/^\d{4}-\d\d-\d\dT.*Z$/)
    const [error = ''] = program.ok(`stream dlq list ${broker} ${job}`).split('\n')
    expect(error.split('\t').slice(0, 2)).toEqual(['exit 4: cannot do it', '9'])
    const json = program.ok(`stream dlq list ${broker} ${job} --json`)
    expect(JSON.parse(json)).toMatchObject({ kind: 'dlq-error', count: 9 })
    expect(typeof JSON.parse(json).first).toBe('number')
    expect(program.ok(`stream dlq show ${broker} ${job}`)).toBe('1\n2\n3\n4\n5\n6\n7\n8\n9\n')
    const shown = `stream dlq show ${broker} ${job} --json -n 1 --grep 'v:/^3$/'`
    const { key, headers } = JSON.parse(program.ok(shown))
    expect(key).toBe('k3')
    expect(Object.fromEntries(headers)).toMatchObject({
      'dlq.topic': 'nine',
      'dlq.partition': '0',
      'dlq.offset': '2',
      'dlq.job': job,
      'dlq.batch': `${job}/nine/0/0-8`,
      'dlq.attempts': '1',
      'dlq.error': 'exit 4: cannot do it',
      'dlq.exit': '4',
      'dlq.stderr': 'cannot do it\n',
      'dlq.replays': '0',
    })
  })

  it('show: range, partitions, --all', () => {
    fail()
    program.ok(`stream dlq drop ${job} --grep 'v:/[1-6]/' -y`)
    expect(program.ok(`stream dlq show ${job}`)).toBe('7\n8\n9\n')
    expect(program.ok(`stream dlq show ${job} --all -n 2`)).toBe('1\n2\n')
    expect(program.ok(`stream dlq show ${job} --from 7`)).toBe('8\n9\n')
    expect(program.ok(`stream dlq show ${job} -p 0 -n 1`)).toBe('7\n')
    expect(program.shell(`stream dlq show ${job} --grep v:/x/ --fail-empty`).status).toBe(3)
  })

  it('a job without dead letters is said so, with the nearest name', () => {
    fail()
    for (const verb of ['show', 'list', 'replay', 'drop']) {
      const outcome = program.shell(`stream dlq ${verb} ${job}x`)
      expect(outcome.status, verb).toBe(3)
      expect(outcome.stderr).toContain(`${job}x: has no dead letters (no topic ${job}x.dlq)`)
      expect(outcome.stderr).toContain('did you mean job')
      expect(outcome.stdout).toBe('')
    }
    expect(program.shell('stream dlq show').status).toBe(2)
  })
})

describe('replay', () => {
  it.each(['', 'kafka'])('gives records back to the job alone, once %s', (door) => {
    const broker = door === '' ? '' : `-b ${kafka}`
    fail('nine', broker)
    const rows = program.ok(`stream dlq replay ${broker} ${job} --grep 'v:/[123]/' -y`)
    expect(rows.split('\n')[0]).toBe('0\t0\tnine\t0\texit 4: cannot do it')
    expect(counts()).toBe('6\t3\t0')
    // A plain member of the group does not read them.
    expect(program.ok(`stream consume nine ${broker} -g ${job} --until-end`)).toBe('')
    const again = `stream consume nine ${broker} -g ${job} --until-end --exec 'echo "$STREAM_TOPIC $STREAM_KEY $(cat)"; echo "$STREAM_HEADERS" >&2'`
    const outcome = program.shell(again)
    expect(outcome.stdout).toBe(`${job}.retry k1 1\n${job}.retry k2 2\n${job}.retry k3 3\n`)
    expect(JSON.parse(outcome.stderr.split('\n')[2] ?? '')).toMatchObject([
      ['dlq.topic', 'nine'],
      ['dlq.partition', '0'],
      ['dlq.offset', '2'],
      ['dlq.ts', expect.stringMatching(/^\d+$/)],
      ['dlq.replays', '1'],
    ])
    expect(program.shell(again).stdout).toBe('')
    expect(program.ok(`stream dlq replay ${broker} ${job} --grep 'v:/[123]/' -y`)).toBe('')
  })

  it('a run that follows takes them while it runs', async () => {
    fail()
    const child = program.start('stream', [...`consume nine -g ${job} --exec`.split(' '), 'cat'])
    let out = ''
    child.stdout?.on('data', (text) => {
      out += text
    })
    program.ok(`stream dlq replay ${job} -n 2 -y`)
    await eventually('they are done', () => (out === '1\n2\n' ? true : undefined))
    child.kill('SIGTERM')
    expect(await ended(child)).toBe(143)
  })

  it('what fails again comes back with its origin; after --max-replays it is left out', () => {
    fail()
    program.ok(`stream dlq drop ${job} --grep 'v:/[2-9]/' -y`)
    for (let replays = 1; replays <= 3; replays += 1) {
      expect(program.ok(`stream dlq replay ${job} -y`).split('\t')[3]).toBe(String(replays - 1))
      fail()
      const { headers } = JSON.parse(program.ok(`stream dlq show ${job} --json`))
      expect(Object.fromEntries(headers)).toMatchObject({
        'dlq.topic': 'nine',
        'dlq.offset': '0',
        'dlq.replays': String(replays),
      })
      expect(headers).toHaveLength(11)
    }
    const outcome = program.shell(`stream dlq replay ${job} -y`)
    expect(outcome.status).toBe(8)
    expect(outcome.stdout).toBe('')
    expect(outcome.stderr).toContain(
      `${job}: 1 dead letter was replayed 3 times already; to replay them nevertheless: --max-replays 4`,
    )
    expect(program.ok(`stream dlq replay ${job} --max-replays 4 -y`)).not.toBe('')
  })

  it('--dry-run and refusals change nothing', () => {
    fail()
    expect(program.ok(`stream dlq replay ${job} --dry-run -n 4 | wc -l`).trim()).toBe('4')
    for (const verb of ['replay', 'drop']) {
      const refused = program.shell(`stream dlq ${verb} ${job}`)
      expect(refused.status).toBe(2)
      expect(refused.stderr).toContain('to agree beforehand: -y')
      expect(refused.stdout).toBe('')
    }
    expect(counts()).toBe('9\t0\t0')
    expect(program.shell(`stream dlq replay ${job} --grep nonsense -y`).status).toBe(2)
    expect(program.shell(`stream dlq replay ${job} --from nonsense -y`).status).toBe(2)
  })

  it('--all takes those that were replayed or dropped, too', () => {
    fail()
    program.ok(`stream dlq drop ${job} -y`)
    expect(program.shell(`stream dlq replay ${job} -y --fail-empty`).status).toBe(3)
    expect(program.ok(`stream dlq replay ${job} --all -n 2 -y | wc -l`).trim()).toBe('2')
    expect(counts()).toBe('0\t2\t7')
  })

  it('two at once, and kill -9 at any moment: each goes back once', async () => {
    program.ok(`seq 20000 | stream produce ${job}.in`)
    fail(`${job}.in`)
    for (let round = 0; round < 6; round += 1) {
      const runs = [1, 2].map(() =>
        program.start('bash', ['-c', `exec stream dlq replay ${job} -y > /dev/null`]),
      )
      const ends = runs.map((child) => ended(child))
      await new Promise((resolve) => setTimeout(resolve, 150 + Math.random() * 300))
      runs[round % 2]?.kill('SIGKILL')
      await Promise.all(ends)
    }
    program.ok(`stream dlq replay ${job} -y`)
    expect(counts()).toBe('0\t20000\t0')
    expect(sorted(program.ok(`stream cat ${job}.retry`))).toEqual(
      Array.from({ length: 20_000 }, (_, index) => index + 1),
    )
  }, 120_000)

  it('the first of two at once is told who took over, and what to do', async () => {
    program.ok(`seq 20000 | stream produce ${job}.in`)
    fail(`${job}.in`)
    const line = `stream dlq replay ${job} -y > /dev/null 2>`
    const out = program.ok(
      `for round in 1 2 3 4 5; do (${line} err1) & (${line} err2) & wait; done; cat err1 err2
       for i in 1 2 3; do stream dlq drop ${job} --all -y > /dev/null 2> err$i & done; wait; cat err1 err2 err3`,
    )
    expect(out).toContain(`${job}: another dlq replay or drop of it began meanwhile and took over`)
    expect(out).toContain(`stream dlq list ${job}`)
    expect(out).not.toContain('INVALID_PRODUCER_EPOCH')
  }, 60_000)

  it('marks of a topic that was created again are no longer true', () => {
    fail()
    program.ok(`stream dlq drop ${job} -y; stream topics delete ${job}.dlq -y`)
    program.ok(`stream groups seek ${job} --to start -y`)
    fail()
    expect(counts()).toBe('9\t0\t0')
  })
})

describe('replay --edit', () => {
  const edit = (command: string) =>
    program.shell(`stream dlq replay ${job} -y --edit "$EDIT"`, { environment: { EDIT: command } })

  it('changes records, leaves some out, keeps origin and marks straight', () => {
    fail()
    const outcome = edit(
      `jq -c 'select(.key == "k2" or .key == "k5") | .value += "!" | .headers = [["dlq.topic","forged"],["own","1"]]'`,
    )
    expect(outcome.status).toBe(0)
    expect(counts()).toBe('7\t2\t0')
    const [first = ''] = program.ok(`stream cat ${job}.retry --json`).split('\n')
    const { key, value, headers } = JSON.parse(first)
    expect([key, value]).toEqual(['k2', '2!'])
    expect(headers.slice(0, 4)).toEqual([
      ['own', '1'],
      ['dlq.topic', 'nine'],
      ['dlq.partition', '0'],
      ['dlq.offset', '1'],
    ])
    expect(program.shell('ls "$XDG_STATE_HOME"/stream/spool').stdout).toBe('')
  })

  it.each([
    ['exit 3', 9, 'the command failed: exit 3; nothing was replayed'],
    ['kill -9 $$', 9, 'the command failed: killed by SIGKILL'],
    ['./nowhere', 9, 'exit 127 (command not found)'],
    ['echo nonsense', 5, 'line 1 of what the command printed: no JSON object'],
    [
      'cat; head -1 < /dev/null; echo \'{"value":"x"}\'',
      5,
      'line 10 of what the command printed: no "partition"',
    ],
    ["jq -c '.offset += 100'", 5, 'partition 0, offset 100 was not among its input'],
    ['tee copy; cat copy', 5, 'line 10 of what the command printed: offset 0 for the second time'],
  ])('%s: nothing is replayed', (command, status, words) => {
    fail()
    const outcome = edit(command)
    expect(outcome.status).toBe(status)
    expect(outcome.stderr).toContain(words)
    expect(outcome.stdout).toBe('')
    expect(counts()).toBe('9\t0\t0')
  })
})
