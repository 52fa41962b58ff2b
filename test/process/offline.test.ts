/** dump and fsck on what a real daemon wrote: acceptance line 36, rescue, repair, and what is refused. */
import { createHash } from 'node:crypto'
import { existsSync, lstatSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually, Program } from '../support/program.ts'

/** Names, sizes, contents and times of a directory: what "nothing changed" means. */
function fingerprint(directory: string): string {
  const hash = createHash('sha256')
  for (const name of readdirSync(directory, { recursive: true }).map(String).sort()) {
    const stat = lstatSync(join(directory, name))
    hash.update(`${name} ${stat.size} ${stat.mtimeMs}\n`)
    if (stat.isFile()) hash.update(readFileSync(join(directory, name)))
  }
  return hash.digest('hex')
}

function flip(path: string, position: number): void {
  const bytes = readFileSync(path)
  bytes[position] = (bytes[position] ?? 0) ^ 0xff
  writeFileSync(path, bytes)
}

describe('dump and fsck', () => {
  let program: Program
  let data: string
  let segment: string

  /** Stopped, and gone: the last thing a daemon does is to remove its pid file. */
  const stopped = async (): Promise<void> => {
    program.ok('stream daemon stop')
    const pidFile = program.path('data', 'stream', 'daemon.pid')
    await eventually('the end of the daemon', () => !existsSync(pidFile) || undefined)
  }

  beforeAll(async () => {
    program = new Program()
    program.ok(
      `stream daemon start
       stream topics create orders
       for i in 1 2 3 4 5; do seq -f "order $i-%g" 2000 | stream produce orders; done
       printf 'k\\tv\\n' | stream produce orders -K '\\t' -H h=x
       stream cat orders --json > before`,
    )
    await stopped()
    data = program.path('data', 'stream')
    segment = join(data, 'orders-0', '00000000000000000000.log')
  })
  afterAll(() => program.stop())

  it('dump prints what cat printed, and changes nothing', () => {
    const before = fingerprint(data)
    expect(program.ok('stream dump data/stream/orders-0 --json | cmp - before && echo same')).toBe(
      'same\n',
    )
    expect(
      program.ok('cd data/stream/orders-0 && stream dump . | cmp - ../../../before && echo same'),
    ).toBe('same\n')
    expect(program.ok(`stream dump ${segment} | cmp - before && echo same`)).toBe('same\n')
    expect(program.ok('stream dump data/stream/orders-0 --from 5 --until 8 | jq -r .offset')).toBe(
      '5\n6\n7\n',
    )
    expect(program.ok('stream dump data/stream/orders-0 --from -2 | jq -r .value')).toBe(
      'order 5-2000\nv\n',
    )
    expect(program.ok('stream dump data/stream/orders-0 --until yesterday')).toBe('')
    expect(fingerprint(data)).toBe(before)
  })

  it('--batches: a row each, as TSV and as JSON', () => {
    const rows = program.ok('stream dump data/stream/orders-0 --batches').split('\n').slice(0, -1)
    expect(rows.length).toBeGreaterThan(5)
    expect(rows.every((row) => row.split('\t').length === 12 && row.endsWith('\tok'))).toBe(true)
    const [first] = program.ok('stream dump data/stream/orders-0 --batches --json').split('\n')
    expect(JSON.parse(first ?? '')).toMatchObject({
      v: 1,
      kind: 'batch',
      position: 0,
      base: 0,
      codec: 'none',
      state: 'ok',
    })
    const titled = program.ok('stream dump data/stream/orders-0 --batches -o table | head -1')
    expect(titled).toMatch(
      /^FILE +POSITION +BASE +LAST +EPOCH +PRODUCER +SEQUENCE +CODEC +RECORDS +BYTES +CRC +STATE$/m,
    )
  })

  it('fsck of a sound directory says nothing, exits 0, changes nothing', () => {
    const before = fingerprint(data)
    expect(program.shell('stream fsck data/stream')).toMatchObject({
      status: 0,
      stdout: '',
      stderr: '',
    })
    expect(program.shell('stream fsck data/stream --repair')).toMatchObject({
      status: 0,
      stdout: '',
    })
    expect(program.shell('stream fsck data/stream -v').stderr).toContain(
      '0 findings in 1 partitions, 1 segments',
    )
    expect(fingerprint(data)).toBe(before)
  })

  it('line 36: one byte flipped: dump goes on, names the batch, exits 5; jq sees envelopes only', () => {
    flip(segment, 100_000)
    const before = fingerprint(data)
    const { stdout, stderr } = program.shell(
      'stream dump data/stream/orders-0 --json | jq -e .v > /dev/null; echo ${PIPESTATUS[0]}',
    )
    expect(stdout).toBe('5\n')
    const error = JSON.parse(stderr) as {
      code: string
      exit: number
      message: string
      target: string
    }
    expect(error).toMatchObject({ kind: 'error', code: 'DATA_DAMAGED', exit: 5, target: segment })
    expect(error.message).toMatch(/bytes \d+ to \d+ \(offset \d+\) are damaged: CRC/)
    const plain = program.shell('stream dump data/stream/orders-0 > rest')
    expect(plain.status).toBe(5)
    expect(plain.stderr).toMatch(
      /^stream: dump: .*00000000000000000000\.log: bytes \d+ to \d+ \(offset \d+\) are damaged: CRC .*\n$/,
    )
    const rows = program.shell('stream dump data/stream/orders-0 --batches').stdout
    expect(rows.split('\n').filter((row) => row.endsWith('\tdamaged'))).toHaveLength(1)
    expect(fingerprint(data)).toBe(before)
  })

  it('fsck names it, exit 5; --repair without a terminal is refused, --dry-run changes nothing', () => {
    const before = fingerprint(data)
    const found = program.shell('stream fsck data/stream --json')
    expect(found.status).toBe(5)
    expect(JSON.parse(found.stdout)).toMatchObject({
      v: 1,
      kind: 'finding',
      file: segment,
      check: 'checksum',
      state: 'damaged',
    })
    const tsv = program.shell('stream fsck data/stream').stdout.trimEnd().split('\t')
    expect(tsv).toHaveLength(5)
    const refused = program.shell('stream fsck data/stream --repair')
    expect(refused).toMatchObject({ status: 2, stdout: '' })
    expect(refused.stderr).toContain('to agree beforehand: -y')
    expect(program.shell('stream fsck data/stream --repair --dry-run').status).toBe(5)
    expect(fingerprint(data)).toBe(before)
  })

  it('--repair is refused while a daemon has the directory: 8; a check says that one runs', async () => {
    program.ok('stream daemon start')
    try {
      const refused = program.shell('stream fsck data/stream --repair -y')
      expect(refused.status).toBe(8)
      expect(refused.stderr).toContain('stop it first: stream daemon stop')
      expect(program.shell('stream fsck data/stream').stderr).toContain(
        'a daemon has the directory',
      )
      expect(program.shell('stream dump data/stream/orders-0 | tail -1').stdout).toContain(
        '"value":"v"',
      )
    } finally {
      await stopped()
    }
  })

  it('--repair sets the range aside; then fsck is clean, and the daemon serves the rest without a stop', async () => {
    const repaired = program.shell('stream fsck data/stream --repair -y')
    expect(repaired.status).toBe(5)
    expect(repaired.stdout.split('\t')[3]).toBe('set-aside')
    const [aside = ''] = readdirSync(join(data, 'set-aside', 'orders-0'))
    expect(aside).toMatch(/^00000000000000000000\.log\.\d+-\d+$/)
    expect(program.shell('stream fsck data/stream')).toMatchObject({ status: 0, stdout: '' })
    expect(program.ok('stream dump data/stream/orders-0 | cmp - rest && echo same')).toBe('same\n')
    expect(program.ok('stream cat orders --json | cmp - rest && echo same')).toBe('same\n')
    expect(program.ok('echo more | stream produce orders && stream cat orders | tail -1')).toBe(
      'more\n',
    )
    await stopped()
    expect(program.shell('stream fsck data/stream')).toMatchObject({ status: 0, stdout: '' })
  })

  it('what dump prints, produce takes', () => {
    program.ok('stream dump data/stream/orders-0 --json > all; stream produce rescued --json < all')
    expect(
      program.ok(
        `stream cat rescued --json | jq -c '[.key,.value,.headers,.ts]' > r; jq -c '[.key,.value,.headers,.ts]' all | cmp - r && echo same`,
      ),
    ).toBe('same\n')
  })

  it('after kill -9 in the middle of writing nothing is wrong', async () => {
    for (let round = 0; round < 3; round += 1) {
      program.shell(
        '(seq -f "line %0500g" 200000 | stream produce busy --delivery-timeout 1s 2> /dev/null) & sleep .4; kill -9 $(stream daemon status --json | jq .pid); wait; true',
      )
      const found = program.shell('stream fsck data/stream --json')
      const states = found.stdout
        .split('\n')
        .slice(0, -1)
        .map((line) => (JSON.parse(line) as { state: string }).state)
      expect(
        states.filter((state) => !['torn', 'note'].includes(state)),
        found.stdout,
      ).toEqual([])
      expect(found.status).toBe(0)
      program.ok('stream daemon start')
    }
    await stopped()
    expect(program.shell('stream fsck data/stream').status).toBe(0)
  }, 60_000)

  it.each([
    ['dump', 2, 'DIR or FILE is missing'],
    ['dump data/stream', 2, 'a data directory, not a partition; try: stream dump'],
    ['dump nowhere', 3, 'nowhere'],
    ['dump before --from never', 2, '--from never'],
    ['dump data/stream/orders-0 --from committed', 2, 'files know nothing'],
    ['dump data/stream/orders-0 --batches --embed', 2, '--embed is of records'],
    ['dump data/stream/orders-0 -o tsv', 2, 'add --batches'],
    ['fsck', 2, 'DIR is missing'],
    ['fsck .', 2, 'no data directory'],
    ['fsck data/stream/orders-0', 2, 'no data directory'],
    ['fsck nowhere', 3, 'nowhere'],
    ['fsck data/stream --dry-run', 2, '--dry-run is of --repair'],
  ])('stream %s: exit %i, one line, a clean stdout', (words, status, said) => {
    const outcome = program.shell(`stream ${words}`)
    expect(outcome).toMatchObject({ status, stdout: '' })
    expect(outcome.stderr).toContain(said)
    expect(outcome.stderr.trimEnd().split('\n')).toHaveLength(1)
  })

  it('a file that holds anything at all is damage, not a crash; a pipe that closes is 141', () => {
    expect(
      program.shell('head -c 100000 /dev/urandom > noise.log; stream dump noise.log').status,
    ).toBe(5)
    expect(program.shell('stream dump /dev/null')).toMatchObject({ status: 0, stdout: '' })
    expect(
      program.shell('stream dump data/stream/busy-0 | head -1 > /dev/null; echo ${PIPESTATUS[0]}'),
    ).toMatchObject({
      stdout: '141\n',
      stderr: '',
    })
    expect(program.shell('stream dump data/stream/orders-0 > /dev/full').status).toBe(1)
  })
})
