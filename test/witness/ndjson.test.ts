/** Our JSON lines, read and written by the package ndjson as scripts use it. */
import { spawn } from 'node:child_process'
import ndjson from 'ndjson'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Program } from '../support/program.ts'

describe('the package ndjson', () => {
  let program: Program
  beforeAll(() => {
    program = new Program({ environment: { STREAM_CONF_PRODUCE_CREATE: 'yes' } })
    program.ok(String.raw`printf 'a\nb\tc\n\xff\n{"n":1}\n' | stream produce t`)
    program.ok('stream consume t -g g --until-end > /dev/null')
  })
  afterAll(() => program?.stop())

  const objects = (line: string): Promise<Record<string, unknown>[]> =>
    new Promise((resolve, reject) => {
      const found: Record<string, unknown>[] = []
      const child = spawn('bash', ['-c', line], {
        env: program.environment,
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      child.stdout
        .pipe(ndjson.parse({ strict: true }))
        .on('data', (object) => found.push(object))
        .on('error', reject)
        .on('end', () => resolve(found))
    })

  it.each([
    'topics list --internal',
    'topics describe t',
    'topics describe t --config',
    'groups list',
    'groups describe g',
    'groups lag g',
    'daemon status',
    'check cluster',
    'top -n 1',
    'config keys',
    'config list',
    'cat t',
    'tail t -n 2',
  ])('reads stream %s --json', async (words) => {
    const found = await objects(`stream ${words} --json`)
    expect(found.length).toBeGreaterThan(0)
    for (const object of found) expect(object['v']).toBe(1)
  })

  it('writes what produce --json takes, and reads it back', async () => {
    const lines = ndjson.stringify()
    const child = spawn('stream', ['produce', 'u', '--json'], {
      env: program.environment,
      stdio: ['pipe', 'inherit', 'inherit'],
    })
    lines.pipe(child.stdin)
    const sent = [{ key: 'k', value: 'é\n"\u0000' }, { value: { a: [1, null] } }, { value: null }]
    for (const object of sent) lines.write(object)
    lines.end()
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(0)
    const found = await objects('stream cat u --json --embed')
    expect(found.map(({ value }) => value)).toEqual(sent.map(({ value }) => value))
  })
})
