/** Consumer groups by the built program: the acceptance lines 20, 30 and 31, commit modes, several members, the verbs. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Cluster } from '../../src/client/cluster.ts'
import { GroupAdmin } from '../../src/client/group-admin.ts'
import { RealNet } from '../../src/io/real-net.ts'
import { RealRandom } from '../../src/io/real-random.ts'
import { RealTime } from '../../src/io/real-time.ts'
import { quiet } from '../sim/sim-clients.ts'
import { Program } from '../support/program.ts'

describe('groups: lines a user types', () => {
  let program: Program
  let kafka: string
  beforeAll(() => {
    program = new Program({ environment: { STREAM_CONF_PRODUCE_CREATE: 'yes' } })
    program.ok('stream daemon start --listen kafka://127.0.0.1:0')
    program.ok('stream topics create t --partitions 4; seq 1000 | stream produce t -p 0')
    kafka = program.ok("stream daemon status --json | grep -o 'kafka://[0-9.:]*'").trim()
  })
  afterAll(() => program?.stop())

  it('20: what was written before a signal is committed', () => {
    const line =
      'timeout --preserve-status -s INT 5 stream consume t -g g --from start > out; echo $?; stream groups lag g -o tsv | cut -f3; wc -l < out'
    expect(program.ok(line)).toBe('130\n0\n1000\n')
  })

  it('30: a seek is undone, and an undo too', () => {
    program.ok('stream consume t -g u --until-end > /dev/null')
    const lag = () => program.ok('stream groups lag u | cut -f3').trim()
    expect(lag()).toBe('0')
    program.ok('stream groups seek u --to start -y')
    expect(lag()).toBe('1000')
    program.ok('stream groups undo u -y')
    expect(lag()).toBe('0')
    program.ok('stream groups undo u --redo -y')
    expect(lag()).toBe('1000')
  })

  it('each undo goes one seek further back, ten in all, and each redo one forth', () => {
    const at = () => program.ok('stream groups describe steps | cut -f4 | head -1').trim()
    const undo = (words = '') => program.shell(`stream groups undo steps -y ${words}`)
    program.ok('stream consume t -g steps --until-end > /dev/null')
    expect(undo().stderr).toContain('steps: was never moved')
    for (let seek = 12; seek > 0; seek -= 1) {
      program.ok(`stream groups seek steps --to 0=${seek * 10} -y`)
    }
    const seen: string[] = []
    for (let step = 0; step < 5; step += 1) {
      expect(undo().status).toBe(0)
      seen.push(at())
    }
    expect(seen).toEqual(['20', '30', '40', '50', '60'])
    expect(undo('--redo').status).toBe(0)
    expect(at()).toBe('50')
    while (undo().status === 0) seen.push(at())
    expect(seen.slice(5)).toEqual(['60', '70', '80', '90', '100', '110'])
    const last = undo()
    expect(last.status).toBe(3)
    expect(last.stderr).toContain('steps: there is no earlier seek to undo')
    for (let step = 0; step < 10; step += 1) expect(undo('--redo').status).toBe(0)
    expect(at()).toBe('10')
    expect(undo('--redo').stderr).toContain('steps: there is no undo to undo')

    expect(undo().status).toBe(0)
    expect(undo().status).toBe(0)
    program.ok('stream groups seek steps --to 0=7 -y')
    expect(undo('--redo').status).toBe(3)
    expect(undo().status).toBe(0)
    expect(at()).toBe('30')
    expect(undo().status).toBe(0)
    expect(at()).toBe('40')
  })

  it('a position behind the end is shown and told, not called read', async () => {
    program.ok(
      'seq 20 | stream produce short --create; stream consume short -g far --until-end > /dev/null',
    )
    const time = new RealTime()
    const random = new RealRandom()
    const cluster = new Cluster(time, random, new RealNet(), quiet, { addresses: [kafka] })
    await cluster.connect()
    try {
      await new GroupAdmin(time, random, cluster).commit('far', [
        { topic: 'short', partition: 0, offset: 500 },
      ])
    } finally {
      cluster.close()
    }
    const lag = program.shell('stream groups lag far')
    expect(lag.stdout.split('\t').slice(0, 3)).toEqual(['far', 'short', '-480'])
    expect(lag.stderr).toContain('far: short: partition 0 ends at 20, and 500 is committed')
    expect(lag.stderr).toContain('stream groups seek far -t short --to POS')
    expect(JSON.parse(program.ok('stream groups describe far --json 2> /dev/null'))).toMatchObject({
      committed: 500,
      end: 20,
      lag: -480,
    })
    expect(program.ok('stream groups list far --lagging 2> /dev/null')).toContain('-480')
    expect(program.shell('stream groups lag far --wait-until 0').status).toBe(5)
    const check = program.shell('stream check group far')
    expect(check.status).toBe(1)
    expect(check.stdout).toContain('crit\tbehind_end\tfar\t1\t0\n')
    expect(check.stderr).toContain('far: short: partition 0 ends at 20, and 500 is committed')
    program.ok('stream groups seek far -t short --to start -y')
    expect(program.ok('stream groups lag far | cut -f3')).toBe('20\n')
    expect(program.ok('stream check group far')).not.toContain('behind_end')
  })

  it('a state that there is none of, and a partition', () => {
    const list = program.shell('stream groups list --state Stabel')
    expect(list.status).toBe(2)
    expect(list.stderr).toMatch(/must be one of Empty, Stable, .*did you mean Stable\?/)
    expect(program.ok('stream groups list --state empty')).not.toBe('')
    program.ok('stream consume t -g peeked --until-end > /dev/null')
    const peek = program.shell('stream groups peek peeked -p 9')
    expect([peek.status, peek.stdout]).toEqual([3, ''])
    expect(peek.stderr).toContain('t: no partition 9, only 4')
    expect(program.shell('stream groups peek peeked -p 0').status).toBe(0)
  })

  it('a seek to a partition that the group has not read is refused, and moves nothing', () => {
    program.ok('stream consume t -g named --until-end > /dev/null')
    const before = program.ok('stream groups describe named | cut -f 1-4')
    const outcome = program.shell('stream groups seek named --to 0=0,77=3 -y')
    expect(outcome.stderr).toContain('--to: the group has committed nothing of partition 77')
    expect(outcome.status).toBe(3)
    expect(program.ok('stream groups describe named | cut -f 1-4')).toBe(before)
  })

  it('31: a seek of a group with live members is refused, and names them', () => {
    const outcome = program.shell(
      'stream consume t -g live > /dev/null & sleep 3; stream groups seek live --to start -y; echo $?; stream groups delete live -y; echo $?; kill $!; wait',
    )
    expect(outcome.stdout).toBe('8\n8\n')
    expect(outcome.stderr).toMatch(/live: has live members: stream-\S+ \(localhost\)/)
    expect(outcome.stderr).toContain('NON_EMPTY_GROUP')
  })

  it.each(['', 'kafka'])('a bounded run goes on where the last one ended %s', (door) => {
    const broker = door === '' ? '' : `-b ${kafka}`
    const group = `b${door}`
    const consume = `stream consume t ${broker} -g ${group} --until-end`
    expect(program.ok(`${consume} | wc -l`).trim()).toBe('1000')
    expect(program.ok(`${consume} | wc -l`).trim()).toBe('0')
    expect(program.shell(`${consume} --fail-empty`).status).toBe(3)
    program.ok(
      `stream groups seek ${group} ${broker} --to -5 -t t -p 0 -y; stream groups lag ${group} ${broker}`,
    )
    expect(program.ok(`${consume} | wc -l`).trim()).toBe('5')
    program.ok(`stream groups delete ${group} ${broker} -y`)
  })

  it('several members of one bounded run read each record once', () => {
    program.ok(
      'stream topics create many --partitions 8; for p in 0 1 2 3 4 5 6 7; do seq $((p*2500+1)) $((p*2500+2500)) | stream produce many -p $p; done',
    )
    program.ok(
      'for i in 1 2 3; do stream consume many -g team --until-end > part$i & done; wait; sort -n part1 part2 part3 | uniq -d | wc -l',
    )
    expect(program.ok('sort -u part1 part2 part3 | wc -l').trim()).toBe('20000')
    expect(program.ok('stream groups lag team --total | cut -f3').trim()).toBe('0')
  })

  it('--commit: none nothing, eof nothing after a hang-up, ack what was acknowledged', () => {
    program.ok('stream consume t -g none --until-end --commit none > /dev/null')
    expect(program.ok('stream groups lag none')).toBe('')
    program.ok('stream topics create big; yes | head -300000 | stream produce big')
    program.shell('stream consume big -g eof --until-end | head -1')
    expect(program.ok('stream groups lag eof')).toBe('')
    program.ok('stream topics create acks; seq 100 | stream produce acks')
    const outcome = program.shell(
      'mkfifo ack; stream consume acks -g ack --until-end --commit ack --ack-fd 3 3< ack | { exec 4> ack; n=0; while read -r l; do n=$((n+1)); [ $n -eq 40 ] && echo 40 >&4; done; exec 4>&-; }; echo ${PIPESTATUS[0]}; stream groups lag ack | cut -f3',
    )
    expect(outcome.stdout).toBe('5\n60\n')
    expect(outcome.stderr.match(/60 records were not acknowledged/g)).toHaveLength(1)
  })

  it('ack: what the first run printed and nobody acknowledged is there for the next one', () => {
    program.ok('stream topics create unacked')
    const { stdout } = program.shell(
      `stream consume unacked -g unacked --commit ack --ack-fd 3 -n 10 3< /dev/null > first & r=$!
      until stream groups describe unacked 2> /dev/null | grep -q stream-; do sleep .1; done
      sleep 1; seq 10 | stream produce unacked; wait $r; echo $?; wc -l < first
      stream groups lag unacked | cut -f3; stream consume unacked -g unacked --idle 1s | wc -l`,
    )
    expect(stdout).toBe('5\n10\n10\n10\n')
  })

  const short = '-X session.timeout.ms=6000 -X heartbeat.interval.ms=500'

  it('a first run that is killed leaves no hole to the next one, which waits for its session to end', () => {
    program.ok('stream topics create killed; echo before | stream produce killed')
    const { stdout } = program.shell(
      `bash -c 'exec stream consume killed -g killed ${short}' > first & r=$!
      until stream groups describe killed 2> /dev/null | grep -q stream-; do sleep .1; done
      sleep 1; echo one | stream produce killed; until grep -q one first; do sleep .1; done
      kill -9 $r; wait $r 2> /dev/null; echo two | stream produce killed
      stream consume killed -g killed ${short} --idle 1s`,
    )
    expect(stdout).toBe('one\ntwo\n')
  })

  it('partitions that are added reach members that have not heard of them yet', () => {
    program.ok('stream topics create growing')
    const { stdout, stderr } = program.shell(
      `for i in 1 2 3; do stream consume growing -g growing --from start > grown$i & p="$p $!"; done
      until [ "$(stream groups describe growing --members 2> /dev/null | wc -l)" = 3 ]; do sleep .1; done
      for n in 4 8; do stream topics alter growing --partitions $n -q > /dev/null
        for i in $(seq $n); do echo $n-$i | stream produce growing -p $((i-1)); done
        until [ "$(cat grown? | grep -c ^$n-)" = $n ] || ! kill -0 $p; do sleep .2; done; done
      kill $p; for i in $p; do wait $i; echo $?; done; cat grown? | sort | uniq -c | grep -cw 1`,
    )
    expect(stdout).toBe('143\n143\n143\n12\n')
    expect(stderr).not.toContain('no such partition')
  })

  it('a bounded run that gets a partition back prints nothing of it twice', () => {
    program.ok('stream topics create back --partitions 4; seq 100000 | stream produce back')
    program.ok(
      `for p in 0 1 2 3; do seq $((p*50000)) $((p*50000+49999)) | stream produce back -p $p; done`,
    )
    const { stdout } = program.shell(
      `stream consume back -g back --until-end --rate 60000/s -F '%p %o\\n' > whole & r=$!
      until [ $(wc -l < whole) -gt 60000 ]; do sleep .1; done
      stream consume back -g back --until-end -n 1 > part; wait $r; echo $?
      sort whole | uniq -d | wc -l; sort -u whole | wc -l; stream groups lag back | cut -f3`,
    )
    expect(stdout).toBe('0\n0\n300000\n0\n')
  })

  describe.each(['ipc', 'kafka'])('offsets that are gone, at the %s door', (door) => {
    const broker = (): string => (door === 'ipc' ? '' : `-b ${kafka}`)
    const committed = (group: string): string =>
      program.ok(`stream groups describe ${group} | cut -f 3,4`)
    const oneLine = (command: string): string =>
      `stream: ${command}: gone-${door}: partition 0: offsets 2 to 5 are gone; the log begins at 6; to read on there: --on-gap warn\n`

    it('before it reads: --on-gap fail reads and commits nothing, whatever the commit mode', () => {
      const topic = `gone-${door}`
      program.ok(
        `stream topics create ${topic} --partitions 2; for p in 0 1; do seq 10 | stream produce ${topic} -p $p; done`,
      )
      program.ok(
        `stream consume ${topic} -g ${topic} --until-end > /dev/null; stream groups seek ${topic} --to 2 -y; stream topics trim ${topic} -p 0 --to 6 -y`,
      )
      const before = '0\t2\n1\t2\n'
      expect(committed(topic)).toBe(before)
      const consume = `stream consume ${topic} ${broker()} -g ${topic} --on-gap fail`
      for (const flags of [
        '--until-end --commit eof',
        '--until-end --commit written',
        '--until-end --commit none',
        '--timeout 20s',
        '--until-end --exec cat',
      ]) {
        const failed = program.shell(`${consume} ${flags}`)
        expect([failed.status, failed.stderr], flags).toEqual([5, oneLine('consume')])
        expect(committed(topic), flags).toBe(before)
      }
      const piped = program.shell(
        `stream pipe ${broker()} --in ${topic} -j ${topic} --until-end --on-gap fail -- sh -c 'cat > /dev/null'`,
      )
      expect([piped.status, piped.stderr]).toEqual([5, oneLine('pipe')])
      expect(committed(topic)).toBe(before)
      expect(program.shell(`${consume.replace('fail', 'never')}`).status).toBe(2)

      const warned = program.shell(
        `${consume.replace('fail', 'warn')} --until-end --report report | wc -l; exit \${PIPESTATUS[0]}`,
      )
      expect([warned.status, warned.stdout.trim()]).toEqual([5, '12'])
      expect(warned.stderr).toBe(
        `stream: consume: ${topic}: partition 0: offsets 2 to 5 are gone; reading on at 6\n`,
      )
      expect(JSON.parse(program.ok('cat report'))).toMatchObject({ gap: 4, exit: 5 })
      expect(committed(topic)).toBe('0\t10\n1\t10\n')
      expect(program.shell(consume.replace('fail', 'fail --until-end'))).toMatchObject({
        status: 0,
        stderr: '',
      })
    })

    it('while it reads: --on-gap fail commits what lies before it, and no more', () => {
      const topic = `going-${door}`
      program.ok(
        `stream topics create ${topic}; yes $(head -c 999 /dev/zero | tr '\\0' x) | head -30000 | stream produce ${topic}`,
      )
      // The reader takes nothing for a while, so most of the topic is not read yet.
      const failed = program.shell(
        `stream consume ${topic} ${broker()} -g ${topic} --from start --until-end --commit written --on-gap fail | (read -r first; stream topics trim ${topic} --keep 5 -y > /dev/null; wc -l); exit \${PIPESTATUS[0]}`,
      )
      const printed = Number(failed.stdout) + 1
      expect(failed.status).toBe(5)
      expect(failed.stderr).toBe(
        `stream: consume: ${topic}: partition 0: offsets ${printed} to 29994 are gone; the log begins at 29995; to read on there: --on-gap warn\n`,
      )
      expect(printed).toBeLessThan(29_000)
      expect(committed(topic)).toBe(`0\t${printed}\n`)
      const warned = program.shell(
        `stream consume ${topic} ${broker()} -g ${topic} --until-end | wc -l; exit \${PIPESTATUS[0]}`,
      )
      expect([warned.status, warned.stdout.trim()]).toEqual([5, '5'])
      expect(committed(topic)).toBe('0\t30000\n')
    })

    it('while it reads: --commit ack waits for who has what lies before the gap', () => {
      const topic = `asked-${door}`
      program.ok(
        `stream topics create ${topic}; yes $(head -c 999 /dev/zero | tr '\\0' x) | head -30000 | stream produce ${topic}; mkfifo ${topic}`,
      )
      const failed = program.shell(
        `stream consume ${topic} ${broker()} -g ${topic} --from start --until-end --commit ack --ack-fd 3 --on-gap fail 3< ${topic} | { exec 4> ${topic}; read -r first; stream topics trim ${topic} --keep 5 -y > /dev/null; n=$(($(wc -l) + 1)); echo $n >&4; echo $n; exec 4>&-; }; exit \${PIPESTATUS[0]}`,
      )
      const printed = Number(failed.stdout)
      expect(failed.status).toBe(5)
      expect(failed.stderr).toBe(
        `stream: consume: ${topic}: partition 0: offsets ${printed} to 29994 are gone; the log begins at 29995; to read on there: --on-gap warn\n`,
      )
      expect(printed).toBeLessThan(29_000)
      expect(committed(topic)).toBe(`0\t${printed}\n`)
    })

    it('a run that follows stores where it goes on, though nothing comes', () => {
      const topic = `empty-${door}`
      program.ok(
        `stream topics create ${topic}; seq 10 | stream produce ${topic}; stream consume ${topic} -g ${topic} -n 2 --from start > /dev/null; stream topics trim ${topic} --to end -y`,
      )
      const follow = `stream consume ${topic} ${broker()} -g ${topic} --idle 1s`
      const first = program.shell(follow)
      expect([first.status, first.stdout]).toEqual([0, ''])
      expect(first.stderr).toContain('offsets 2 to 9 are gone; reading on at 10')
      expect(committed(topic)).toBe('0\t10\n')
      expect(program.shell(follow)).toMatchObject({ status: 0, stderr: '' })
    })
  })

  it('lag as a test for scripts', () => {
    program.ok(
      'stream consume t -g behind --until-end > /dev/null; stream groups seek behind --to -7 -t t -p 0 -y',
    )
    expect(program.shell('stream groups lag behind --fail-above 6').status).toBe(1)
    expect(program.shell('stream groups lag behind --fail-above 7').status).toBe(0)
    expect(program.shell('stream groups lag behind --wait-until 0 --timeout 1s').status).toBe(7)
    const line =
      '(sleep 1; stream consume t -g behind --until-end) > /dev/null & stream groups lag behind --wait-until 0 --timeout 20s; echo $?; wait'
    expect(program.ok(line)).toMatch(/behind\tt\t0\t0\n0\n$/)
  })

  it('a member that has committed nothing yet is not one that has read all', () => {
    program.ok('stream topics create slow; echo x | stream produce slow')
    const line = `stream consume slow -g slow --from start -n 1 --exec 'cat > /dev/null; sleep 4' &
      until stream groups describe slow --members 2> /dev/null | grep -q slow; do sleep .05; done
      stream groups lag slow --wait-until 0 --timeout 1s; echo $?; wait
      stream groups lag slow --wait-until 0 --timeout 9s; echo $?`
    const { stdout, stderr } = program.shell(line)
    expect(stdout).toMatch(/^(slow\tslow\t-\t-\n)?7\nslow\tslow\t0\t0\n0\n$/)
    expect(stderr).toContain(
      'groups lag: 0 records unread besides what members of slow have committed nothing of yet, not 0, after 1000 ms',
    )
  })

  it('positions are exported, imported, taken from another group; the plan is printed', () => {
    program.ok(
      'stream consume t -g from --until-end > /dev/null; stream groups seek from --to -3 -y',
    )
    program.ok(
      'stream groups seek from --export pos.ndjson; stream consume t -g to --until-end > /dev/null',
    )
    const positions = (group: string) => program.ok(`stream groups describe ${group} | cut -f2-4`)
    expect(
      program.ok('stream groups seek to --from-file pos.ndjson --dry-run | wc -l').trim(),
    ).not.toBe('0')
    expect(program.shell('stream groups seek to --from-file pos.ndjson < /dev/null').status).toBe(2)
    program.ok('stream groups seek to --from-file pos.ndjson -y')
    expect(positions('to')).toBe(positions('from'))
    program.ok('stream groups seek to --to end -y; stream groups seek to --to-group from -y')
    expect(positions('to')).toBe(positions('from'))
    program.ok('echo nonsense > bad')
    const bad = program.shell('stream groups seek to --from-file bad -y')
    expect(bad.status).toBe(2)
    expect(bad.stderr).toContain('bad: line 1:')
  })

  it('peek shows the records around the position and changes nothing', () => {
    program.ok(
      'stream topics create peek; seq 9 | stream produce peek; stream consume peek -g peek -n 4 --from start > /dev/null',
    )
    expect(program.ok('stream groups peek peek')).toBe('4\n5\n')
    expect(program.ok('stream groups peek peek -B 0 -A 3')).toBe('5\n6\n7\n')
    expect(program.ok('stream groups lag peek | cut -f3')).toBe('5\n')
  })

  it.each(['', 'kafka'])('commits carry the leader epoch of what was read %s', async (door) => {
    const flags = door === '' ? '' : `-b ${kafka}`
    const group = `epochs${door}`
    program.ok(`stream consume t ${flags} -g ${group} --until-end > /dev/null`)
    program.ok(
      `stream txn ${flags} -- 'stream consume t -g ${group}.txn > /dev/null'; stream pipe ${flags} --in t -j ${group}.pipe --until-end --from start -q -- sh -c 'cat > /dev/null'`,
    )
    const time = new RealTime()
    const random = new RealRandom()
    const cluster = new Cluster(time, random, new RealNet(), quiet, { addresses: [kafka] })
    await cluster.connect()
    try {
      const admin = new GroupAdmin(time, random, cluster)
      for (const groupId of [group, `${group}.txn`, `${group}.pipe`]) {
        const stored = await admin.offsets(groupId)
        const read = stored.find(({ offset }) => offset > 0)
        expect(read?.leaderEpoch, groupId).toBeGreaterThanOrEqual(0)
      }
    } finally {
      cluster.close()
    }
  })

  it('list: by state, by lag, by how long nothing was read', () => {
    program.ok('stream topics create listed; seq 5 | stream produce listed')
    program.ok(
      'for g in l.done l.late; do stream consume listed -g $g --until-end > /dev/null; done',
    )
    program.ok('stream groups seek l.late --to -2 -y')
    const list = (flags: string) => program.ok(`stream groups list 'l.*' ${flags}`)
    expect(list('')).toBe('l.done\tEmpty\t0\t0\nl.late\tEmpty\t0\t2\n')
    expect(list('--lagging')).toBe('l.late\tEmpty\t0\t2\n')
    expect(list('--state stable')).toBe('')
    expect(list('--inactive 1ms')).toBe('l.late\tEmpty\t0\t2\n')
    expect(list('--inactive 1h')).toBe('')
    expect(program.shell("stream groups list 'l.*' --inactive 1h --fail-empty").status).toBe(3)
    const described = program.ok('stream groups describe l.late --json').trim().split('\n')
    expect(described.map((row) => JSON.parse(row))).toMatchObject([
      { v: 1, group: 'l.late', topic: 'listed', partition: 0, committed: 3, end: 5, lag: 2 },
    ])
  })

  it('watch: rows each time; of several groups each is tried', () => {
    expect(program.ok('stream groups watch l.late --every 50ms -n 2 | cut -f 1-3')).toBe(
      'l.late\tlisted\t2\nl.late\tlisted\t2\n',
    )
    const both = program.shell(
      'stream groups lag nosuch l.late | cut -f 1-3; exit ${PIPESTATUS[0]}',
    )
    expect(both.stdout).toBe('l.late\tlisted\t2\n')
    expect(both.stderr).toContain('nosuch: no such group')
    expect(both.status).toBe(3)
    expect(program.shell('stream groups watch nosuch -n 1').status).toBe(3)
  })

  it('delete: without -y nothing; one topic of a group; what it has nothing of', () => {
    expect(program.shell('stream groups delete l.done < /dev/null').status).toBe(2)
    expect(program.ok('stream groups delete l.done --dry-run')).toBe('l.done\n')
    program.ok('stream consume peek -g l.done --until-end > /dev/null')
    const topics = () => program.ok('stream groups describe l.done | cut -f 2 | sort -u')
    expect(topics()).toBe('listed\npeek\n')
    program.ok('stream groups delete l.done -t peek -y')
    expect(topics()).toBe('listed\n')
    const again = program.shell('stream groups delete l.done -t peek -y')
    expect([again.status, again.stdout]).toEqual([3, ''])
    expect(again.stderr).toContain('group l.done has committed nothing of peek')
    program.ok('stream groups delete l.done -y')
    expect(program.shell('stream groups describe l.done').status).toBe(3)
  })

  it('what is not there is said so', () => {
    for (const line of ['lag', 'describe', 'peek', 'undo', 'seek --to start', 'delete -y']) {
      const outcome = program.shell(
        `stream groups ${line.replace(' ', ' nogroup ')} nogroup`.replace(
          /nogroup (.*) nogroup/,
          'nogroup $1',
        ),
      )
      expect(outcome.status, line).toBe(3)
      expect(outcome.stderr).toContain('nogroup: no such group')
      expect(outcome.stdout).toBe('')
    }
    expect(program.shell('stream consume nothing -g x').status).toBe(3)
    expect(program.shell('stream consume t -g x -p 0').status).toBe(2)
    expect(program.shell('stream consume t --instance-id x').status).toBe(2)
  })

  it('a static member that is killed and comes back moves nothing of the others', () => {
    const member = (name: string): string =>
      `stream consume static -g pair --instance-id ${name} --from start -F '%p\\n' >> ${name} 2>> ${name}.errors`
    const shares =
      "stream groups describe pair --members 2> /dev/null | cut -f 3,6 | sort | tr '\\n' ' '"
    const settled = `until [ "$(${shares})" = $'one\\t2 two\\t2 ' ]; do sleep 0.1; done`
    const outcome = program.shell(
      `stream topics create static --partitions 4
      produce() { for p in 0 1 2 3; do seq 5 | stream produce static -p $p; done; }
      all() { until [ "$(cat one two | wc -l)" = $1 ]; do sleep 0.1; done; }
      ${member('one')} & A=$!
      ${member('two')} & B=$!
      ${settled}; produce; all 20
      stream groups describe pair --members | grep -w one | cut -f 2 > before
      sleep 6
      kill -9 $B; wait $B; produce
      ${member('two')} & B=$!
      all 40; ${settled}
      stream groups describe pair --members | grep -w one | cut -f 2 | cmp - before && echo same
      kill $A $B; wait; cat one.errors two.errors >&2`,
    )
    expect(outcome.stdout).toMatch(/same\n$/)
    expect(outcome.stderr).not.toContain('stream:')
    const read = (name: string): string => program.ok(`sort ${name} | uniq -c | tr -s ' '`)
    // Ten records of each of two partitions, each by the one that had it before.
    const both = `${read('one')}${read('two')}`.trimEnd().split('\n').sort()
    expect(both).toEqual([' 10 0', ' 10 1', ' 10 2', ' 10 3'])
  })

  it('a static member that is killed and comes back keeps its partitions; a second one is fenced', () => {
    const outcome = program.shell(
      `stream consume t -g fixed --instance-id one > /dev/null & sleep 2
      kill -9 $!; wait
      stream consume t -g fixed --instance-id one > /dev/null 2> first & A=$!; sleep 2
      stream groups describe fixed --members | cut -f3,6
      stream consume t -g fixed --instance-id one > /dev/null & B=$!; sleep 5
      wait $A; echo $?; cat first >&2; kill $B; wait $B`,
    )
    expect(outcome.stdout).toBe('one\t4\n8\n')
    expect(outcome.stderr).toContain('FENCED_INSTANCE_ID')
  })
})
