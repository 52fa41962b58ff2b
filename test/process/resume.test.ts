/**
 * `produce --resume` on the built program: runs that are killed at any moment, the daemon killed under them, input that
 * grows, changes or is shared by two runs. What is in the topic at the end is the input, each record once.
 */
import { appendFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ended, Program } from '../support/program.ts'

const lines = 300_000
let program: Program
let port: number

beforeAll(async () => {
  program = new Program()
  port = await new Promise<number>((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const found = (server.address() as { port: number }).port
      server.close(() => resolve(found))
    })
  })
  start()
  program.ok(`seq ${lines} | sed 's/$/ some text that makes a line of it/' > input`)
})
afterAll(() => program?.stop())

function start(): void {
  program.ok(`stream daemon start --listen kafka://127.0.0.1:${port}`)
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** Commits as `through` tells. */
function reportOf(line: string): {
  status: number
  records: number
  through: number
  stderr: string
} {
  const run = program.shell(`${line} --report report`)
  const report = JSON.parse(program.ok('cat report')) as { records: number; through_line: number }
  return {
    status: run.status,
    records: report.records,
    through: report.through_line,
    stderr: run.stderr,
  }
}

describe('produce --resume', () => {
  it.each([
    ['ipc', ''],
    ['kafka', 'kafka'],
  ])(
    'acceptance 28 in a loop: killed at any moment, at the %s door',
    async (name, door) => {
      const broker = door === '' ? '' : `-b kafka://127.0.0.1:${port}`
      const topic = `killed-${name}`
      program.ok(`stream topics create ${topic}`)
      let status = -1
      let kills = 0
      for (let round = 0; round < 40 && status !== 0; round++) {
        // From a file and from a pipe in turn.
        const input = round % 2 === 0 ? 'input' : '< <(cat input)'
        const run = program.start('bash', [
          '-c',
          `exec stream produce ${topic} ${broker} --resume import-${name} --chunk 5000,1MiB ${input}`,
        ])
        run.stdin?.end()
        const killer = setTimeout(
          () => {
            kills += 1
            run.kill('SIGKILL')
          },
          // A fast machine is done with all of it in less than half a second.
          kills === 0 ? 100 : 100 + Math.random() * 400,
        )
        if (round === 1 || round === 3) {
          await pause(200)
          process.kill(program.daemonPid(), 'SIGKILL')
          start()
        }
        if (round > 8) clearTimeout(killer)
        status = await ended(run)
        clearTimeout(killer)
      }
      expect(status).toBe(0)
      expect(kills).toBeGreaterThan(0)
      expect(program.shell(`stream cat ${topic} | cmp - input`).status).toBe(0)
      // Finished: nothing is sent.
      const again = reportOf(`stream produce ${topic} ${broker} --resume import-${name} input`)
      expect(again).toMatchObject({ status: 0, records: 0, through: lines })
      expect(program.ok(`stream cat ${topic} | wc -l`).trim()).toBe(`${lines}`)
    },
    120_000,
  )

  it('sends what an input has grown by, also behind a last line without its end', () => {
    writeFileSync(program.path('grows'), 'a\nb')
    program.ok('stream produce grown --resume g grows')
    expect(program.ok('stream cat grown')).toBe('a\nb\n')
    appendFileSync(program.path('grows'), '\nc\n')
    expect(reportOf('stream produce grown --resume g grows')).toMatchObject({
      status: 0,
      records: 1,
      through: 3,
    })
    appendFileSync(program.path('grows'), 'd')
    program.ok('stream produce grown --resume g < grows')
    expect(program.ok('stream cat grown')).toBe('a\nb\nc\nd\n')
    appendFileSync(program.path('grows'), 'one more\n')
    const cut = program.shell('stream produce grown --resume g grows')
    expect(cut.status).toBe(8)
    expect(cut.stderr).toContain('had no end')
    program.ok('stream produce grown --resume g --restart grows')
    expect(program.ok('stream cat grown')).toBe('a\nb\nc\nd\na\nb\nc\ndone more\n')
  })

  it('goes over several files, packed ones too, and takes new ones', () => {
    program.ok('seq 1 10 > f1; seq 11 20 | gzip > f2.gz; seq 21 30 > f3')
    program.ok('stream produce files --resume f --chunk 3 f1 f2.gz')
    expect(program.ok('stream cat files')).toBe(program.ok('seq 20'))
    program.ok('stream produce files --resume f --chunk 3 f1 f2.gz f3')
    expect(program.ok('stream cat files')).toBe(program.ok('seq 30'))
    // A raw input is one record: the next file is the next one.
    program.ok('stream produce raw --resume r --raw f1; stream produce raw --resume r --raw f1 f3')
    expect(program.ok('stream cat raw --raw')).toBe(program.ok('cat f1 f3'))
    program.ok('echo 31 >> f1')
    expect(program.shell('stream produce raw --resume r --raw f1').status).toBe(8)
  })

  it('refuses another input: changed, shorter, or for another topic', () => {
    program.ok('seq 1000 > same; stream produce changed --resume c same')
    program.ok(`sed 's/^500$/five/' same > other`)
    for (const input of ['other', '<(head -10 same)']) {
      const run = program.shell(`stream produce changed --resume c ${input}`)
      expect(run.status).toBe(8)
      expect(run.stderr.trim().split('\n')).toHaveLength(1)
      expect(run.stderr).toContain('--resume c')
      expect(run.stdout).toBe('')
    }
    expect(program.shell('stream produce elsewhere --resume c same').status).toBe(8)
    expect(program.ok('stream cat changed | wc -l').trim()).toBe('1000')
  })

  it('refuses a topic that was made anew since, whose records are not those that were sent', () => {
    program.ok('seq 10 > anew; stream produce anew --resume a anew')
    program.ok('stream topics delete anew -y; stream topics create anew; seq 11 20 >> anew')
    for (const input of ['anew', '<(head -10 anew)']) {
      const run = program.shell(`stream produce anew --resume a ${input}`)
      expect(run.status).toBe(8)
      expect(run.stderr).toMatch(
        /--resume a: topic anew was deleted and created again .*--restart\n$/,
      )
    }
    expect(program.ok('stream cat anew')).toBe('')
    program.ok('stream produce anew --resume a --restart anew')
    program.ok('seq 21 25 >> anew; stream produce anew --resume a anew')
    expect(program.ok('stream cat anew')).toBe(program.ok('seq 25'))
  })

  it('a second run of an ID takes it over, and the first ends with 8', async () => {
    program.ok('stream topics create shared')
    const first = program.start('bash', [
      '-c',
      '{ seq 1 100; sleep 4; } | stream produce shared --resume s; exit ${PIPESTATUS[1]}',
    ])
    first.stdin?.end()
    // Slow input is committed as it comes.
    await pause(2500)
    expect(program.ok('stream cat shared | wc -l').trim()).toBe('100')
    program.ok('{ seq 1 200; } | stream produce shared --resume s')
    const stopped = ended(first)
    first.kill('SIGTERM')
    await stopped
    expect(program.ok('stream cat shared')).toBe(program.ok('seq 200'))

    const older = program.start('bash', [
      '-c',
      'exec stream produce shared --resume s < <(seq 1 200; sleep 3; seq 201 300; sleep 5)',
    ])
    older.stdin?.end()
    let said = ''
    older.stderr?.on('data', (text: Buffer) => {
      said += text.toString()
    })
    const status = ended(older)
    await pause(1000)
    program.ok('seq 1 300 | stream produce shared --resume s')
    expect(await status, said).toBe(8)
    expect(program.ok('stream cat shared')).toBe(program.ok('seq 300'))
  }, 60_000)

  it('a bad record: those before it are sent, and after the repair the rest', () => {
    program.ok(
      `seq 1 50 | sed 's/.*/{"value":"&"}/' > good; { head -20 good; echo bad; tail -30 good; } > bad`,
    )
    const run = reportOf('stream produce repaired --json --resume b --chunk 7 bad')
    expect(run.status).toBe(5)
    expect(run.stderr).toContain('line 21')
    expect(run.through).toBe(20)
    expect(program.ok('stream cat repaired')).toBe(program.ok('seq 20'))
    const again = reportOf('stream produce repaired --json --resume b bad')
    expect(again).toMatchObject({ status: 5, through: 20, records: 0 })
    expect(again.stderr).toContain('line 21')
    program.ok('stream produce repaired --json --resume b good')
    expect(program.ok('stream cat repaired')).toBe(program.ok('seq 50'))
    const skipped = reportOf('stream produce skipped --json --resume k --on-error skip bad')
    expect(skipped).toMatchObject({ status: 5, through: 51 })
    expect(reportOf('stream produce skipped --json --resume k bad').status).toBe(0)
    expect(program.ok('stream cat skipped')).toBe(program.ok('seq 50'))
  })

  it('an interrupted run has sent what it took', async () => {
    const run = program.start('bash', [
      '-c',
      'exec stream produce cut --resume i < <(seq 1 1000; printf "half of a l"; sleep 4)',
    ])
    run.stdin?.end()
    await pause(700)
    run.kill('SIGINT')
    expect(await ended(run)).toBe(130)
    expect(program.ok('stream cat cut')).toBe(program.ok('seq 1000'))
    program.ok('{ seq 1 1000; echo half of a line; } | stream produce cut --resume i')
    expect(program.ok('stream cat cut | tail -1')).toBe('half of a line\n')
  }, 60_000)

  it('a run at a rate that is out of time: what it has sent is not sent again', () => {
    program.ok('seq 100 > paced')
    const run = program.shell('stream produce paced --resume p --rate 50/s --timeout 500ms paced')
    expect([5, 7]).toContain(run.status)
    expect(program.shell('stream txn list --state Ongoing --fail-empty').status).toBe(3)
    program.ok('stream produce paced --resume p paced')
    expect(program.shell('stream cat paced | cmp - paced').status).toBe(0)
  })

  it('other forms and limits', () => {
    program.ok('stream topics create sized; seq 1 2000 | stream produce src')
    program.ok('stream cat src -o sized > sized.bin')
    program.ok('head -c 5000 sized.bin > part.bin')
    const part = program.shell('stream produce sized -i sized --resume z --chunk 100 part.bin')
    // The part ends inside of a record.
    expect([0, 5]).toContain(part.status)
    program.ok(
      'stream produce two -D ";;" --resume d --chunk ,4KiB < <(seq 1 2000 | sed "s/$/;;/" | tr -d "\\n")',
    )
    expect(program.ok('stream cat two')).toBe(program.ok('seq 2000'))
    program.ok(
      `stream cat src -F '%v|%o\\n' > fmt; stream produce fmt -F '%v|%o\\n' --resume m --chunk 33 fmt`,
    )
    expect(program.ok('stream cat fmt')).toBe(program.ok('seq 2000'))
  })

  it('refuses what contradicts it', () => {
    for (const flags of [
      '--resume x --atomic',
      '--resume x --acks 1',
      '--resume x --receipts r',
      '--resume x --value v',
      '--resume ""',
      '--chunk 10',
      '--restart',
      '--resume x --chunk 0',
      '--resume x --chunk 1,2,3',
      '--resume x --chunk abc',
    ]) {
      expect(program.shell(`stream produce none ${flags} < input`).status, flags).toBe(2)
    }
  })
})
