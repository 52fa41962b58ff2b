/** A topic that is deleted and created again under readers of the built program. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Program } from '../support/program.ts'

let program: Program

beforeAll(() => {
  program = new Program()
})
afterAll(() => program?.stop())

describe('a topic that is deleted and created again while it is read', () => {
  for (const [name, words] of [
    ['plain', ''],
    ['cursor', '--cursor-file pos'],
    ['group', '-g readers'],
  ] as const) {
    it(`ends a following reader, and nothing of the new one is taken for the old: ${name}`, () => {
      const out = program.ok(
        `seq 5 | stream produce ${name}
         (stream consume ${name} --from start ${words} > ${name}.out 2> err; echo "exit $?" >> ${name}.out) &
         reader=$!
         for i in $(seq 100); do [ "$(cat ${name}.out | wc -l)" -ge 5 ] && break; sleep 0.1; done
         stream topics delete ${name} -y
         seq -f 'new%g' 7 | stream produce ${name}
         wait $reader; cat ${name}.out err`,
      )
      expect(out).toMatch(/^(\w+\n)?1\n2\n3\n4\n5\nexit 8\nstream: consume: .*created again/)
      expect(out).not.toContain('new1')
    })
  }

  it('leaves the cursor file with the old one, and commits nothing of the new one', () => {
    expect(program.ok('cat pos')).toContain('"partitions":{"0":5}')
    expect(program.shell('stream consume cursor --cursor-file pos --idle 1s').status).toBe(8)
    expect(program.ok('stream groups describe readers')).toBe('')
    const whole = 'stream consume group -g readers --from start --idle 1s'
    expect(program.ok(whole)).toMatch(/^new1\n(.*\n){6}$/)
  })
})

it('a member of a group is told of a topic that is gone, and goes on with the others', () => {
  const out = program.ok(
    `seq 3 | stream produce going; seq 4 6 | stream produce staying
     (stream consume going staying -g both --from start --count 7 2> err; echo "exit $?") > both.out &
     reader=$!
     for i in $(seq 100); do [ "$(cat both.out | wc -l)" -ge 6 ] && break; sleep 0.1; done
     stream topics delete going -y > /dev/null
     for i in $(seq 200); do grep -q gone err && break; sleep 0.1; done
     echo 7 | stream produce staying
     wait $reader; sort both.out; cat err`,
  )
  const words = 'stream: consume: going: the topic is gone; nothing more is read of it'
  expect(out).toBe(`1\n2\n3\n4\n5\n6\n7\nexit 0\n${words}\n`)
})

it('pipe tells of a topic that is gone, and goes on', () => {
  const out = program.ok(
    `seq 3 | stream produce piped
     stream pipe --in piped --out pipedout -j piper --from start -- cat 2> err & pipe=$!
     for i in $(seq 100); do [ "$(stream cat pipedout 2> /dev/null | wc -l)" -ge 3 ] && break; sleep 0.1; done
     stream topics delete piped -y > /dev/null
     for i in $(seq 100); do grep -q gone err && break; sleep 0.1; done
     kill -INT $pipe; wait $pipe; cat err`,
  )
  expect(out).toBe('stream: pipe: piped: the topic is gone; nothing more is read of it\n')
})

it('pipe --carry: the new topic begins without the carry of the old one, and says so', () => {
  const child = `sh -c 'cat > /dev/null; [ -s "$STREAM_CARRY_FILE" ] && cat "$STREAM_CARRY_FILE" || echo fresh; echo old > "$STREAM_CARRY_FILE"'`
  const pipe = `stream pipe --in carried --out carriedout -j carrier --carry kept --from start --until-end -- ${child}`
  const run = program.shell(
    `echo 1 | stream produce carried; ${pipe}; echo 2 | stream produce carried; ${pipe}
     stream topics delete carried -y; echo 3 | stream produce carried; ${pipe}`,
  )
  expect(run.stderr).toBe(
    'stream: pipe: carried: was deleted and created anew since; partition 0 begins without the carry of the former one\n',
  )
  expect(program.ok('stream cat carriedout')).toBe('fresh\nold\nfresh\n')
})

it('txn --fixed: the range of the old topic is not taken of the new one', () => {
  const run = (tail: string) =>
    program.shell(
      `stream txn -j fixer --fixed -- 'stream consume refixed -g fixer --from start; ${tail}'`,
    )
  program.ok('seq 5 | stream produce refixed')
  expect(run('exit 1').status).toBe(9)
  program.ok('stream topics delete refixed -y; seq -f new%g 8 | stream produce refixed')
  const again = run('true')
  expect(again.stderr).toContain('refixed: was deleted and created anew since its range was fixed')
  expect(again.stdout.trim().split('\n')).toHaveLength(8)
})

describe('a topic that is created anew while a program works on its records', () => {
  for (const [name, out, stdin, before, after] of [
    ['gone', '--out copied', 'cat', 'touch go; sleep 1', ''],
    ['anew', '--out copied2', 'cat', '', 'touch go'],
    ['sink', '', 'cat > /dev/null', '', 'touch go'],
  ] as const) {
    it(`has nothing committed of the old one, and is read from its start: pipe, ${name}`, () => {
      const pipe = `stream pipe --in ${name} ${out} -j mover-${name}`
      const text = program.ok(
        `seq 5 | stream produce ${name}; rm -f began go
         (${pipe} --from start -- sh -c '${stdin}; touch began; until [ -e go ]; do sleep 0.1; done' 2> err
          echo "exit $?" > ended) &
         mover=$!
         for i in $(seq 100); do [ -e began ] && break; sleep 0.1; done
         stream topics delete ${name} -y > /dev/null
         ${before}
         seq 3 | stream produce ${name}
         ${after}
         wait $mover; cat ended err
         stream groups describe mover-${name} | cut -f 1-4`,
      )
      expect(text).toMatch(/^exit (8\nstream: pipe: .*created again|3\n.*UNKNOWN_TOPIC_ID).*\n$/)
      expect(program.ok(`${pipe} --until-end -- sh -c '${stdin}'`)).toBe('')
      if (out !== '') expect(program.ok(`stream cat ${out.slice(6)}`)).toBe('1\n2\n3\n')
      expect(program.ok(`stream groups lag mover-${name} | cut -f 3`)).toBe('0\n')
      const position = `stream groups describe mover-${name} | cut -f 4`
      expect(program.ok(position)).toBe('3\n')
    })
  }
})

it('a transaction commits nothing of a topic that is created anew while its pipeline runs', () => {
  const out = program.ok(
    `seq 5 | stream produce batch; rm -f began go
     (stream txn -j batch -- 'stream consume batch -g loader --from start > /dev/null; touch began
        until [ -e go ]; do sleep 0.1; done' 2> err; echo "exit $?" > ended) &
     for i in $(seq 100); do [ -e began ] && break; sleep 0.1; done
     stream topics delete batch -y > /dev/null; seq 3 | stream produce batch; touch go
     wait; cat ended err; stream groups describe loader | cut -f 1-4
     stream consume batch -g loader --from start --until-end`,
  )
  expect(out).toMatch(/^exit 8\nstream: txn: .*created again.*\n1\n2\n3\n$/)
})

describe('a cursor file', () => {
  it('has where the first run began, though nothing came to it', () => {
    const consume = 'stream consume quiet --cursor-file quiet.pos --idle 1s'
    const out = program.ok(
      `stream topics create quiet > /dev/null; echo old | stream produce quiet
       ${consume}; echo new | stream produce quiet; ${consume}`,
    )
    expect(out).toBe('new\n')
  })
})
