/** Produce and consume through pipes, against `cat` in the same loop. */
import { join } from 'node:path'
import {
  type Contender,
  fileBytes,
  makePayload,
  makeScratch,
  median,
  medianRatio,
  type Row,
  race,
  run,
  type Scratch,
} from './harness.ts'

export interface ThroughputOptions {
  readonly megabytes: number
  /** Of the file that shows what a stream does for longer than it takes to start a process. */
  readonly longMegabytes: number
  readonly lineBytes: number
  readonly rounds: number
}

export function benchThroughput(options: ThroughputOptions): Row[] {
  const scratch = makeScratch()
  try {
    const long = benchLong(scratch, options)
    const payload = makePayload(scratch.directory, options)
    const bytes = fileBytes(payload)
    const records = Math.floor(bytes / options.lineBytes)
    const copy = join(scratch.directory, 'copy')
    run(`cat ${payload} > /dev/null; stream topics create warm`, scratch)

    const drop = (topic: string) => run(`stream topics delete ${topic} --if-exists -y -q`, scratch)
    const produceCase = (
      name: string,
      topic: string,
      create: string,
      flags: string,
    ): Contender => ({
      name,
      prepare: () => {
        drop(topic)
        run(`stream topics create ${topic} ${create}; cat ${payload} > /dev/null`, scratch)
      },
      line: () => `cat ${payload} | stream produce ${topic} ${flags}`,
      check: () => {
        const span = run(
          `stream topics describe ${topic} -o json | jq -s 'map(.. | .span? // empty) | add // empty'`,
          scratch,
        ).trim()
        if (span !== '' && Number(span) < records)
          throw new Error(`${name}: ${span} of ${records} records are there`)
      },
    })

    const produced = race(
      scratch,
      [
        {
          name: 'cat > file; sync -d',
          prepare: () => {
            run(`rm -f ${copy}; cat ${payload} > /dev/null`, scratch)
          },
          line: () => `cat ${payload} | cat > ${copy}; sync -d ${copy}`,
        },
        produceCase('produce', 'plain', '', ''),
        produceCase(
          'produce --key-json, 12 partitions',
          'keyed',
          '--partitions 12',
          '--key-json .id',
        ),
        produceCase('produce -z zstd', 'packed', '', '-z zstd'),
      ],
      options.rounds,
    )
    run(`stream cat plain | cmp - ${payload}`, scratch)

    run(
      `stream topics create full; stream produce full --key-json .id -H source=bench < ${payload}`,
      scratch,
    )
    const consumed = race(
      scratch,
      [
        { name: 'cat | cat', line: () => `cat ${payload} | cat > /dev/null` },
        { name: 'stream cat', line: () => 'stream cat plain | cat > /dev/null' },
        { name: 'stream cat --json', line: () => 'stream cat full --json | cat > /dev/null' },
      ],
      options.rounds,
    )

    const of = (results: Map<string, number[]>, name: string) => results.get(name) ?? []
    const rate = (ms: readonly number[]) => bytes / 1e3 / median(ms)
    const text = (ms: readonly number[], ratio: number) =>
      `${ratio.toFixed(2)}x  (${rate(ms).toFixed(0)} MB/s, ${(records / 1e3 / median(ms)).toFixed(2)} M rec/s)`

    const baseline = of(produced, 'cat > file; sync -d')
    const produce = of(produced, 'produce')
    const keyed = of(produced, 'produce --key-json, 12 partitions')
    const packed = of(produced, 'produce -z zstd')
    const pipe = of(consumed, 'cat | cat')
    const cat = of(consumed, 'stream cat')
    const json = of(consumed, 'stream cat --json')
    const produceRatio = medianRatio(baseline, produce)
    const keyedRatio = medianRatio(produce, keyed)
    const packedRatio = medianRatio(produce, packed)
    const catRatio = medianRatio(pipe, cat)
    const jsonRatio = medianRatio(pipe, json)
    return [
      ...long,
      {
        measure: `cat f \\| cat > f2; sync -d f2, ${options.lineBytes} B, ${options.megabytes} MB`,
        value: `${rate(baseline).toFixed(0)} MB/s`,
        must: '',
        aim: '',
        holds: undefined,
      },
      {
        measure: 'cat f \\| stream produce t, of it, with the start of the process',
        value: text(produce, produceRatio),
        must: '0.80',
        aim: '0.95',
        holds: produceRatio >= 0.8,
      },
      {
        measure: '--key-json into 12 partitions, of keyless',
        value: text(keyed, keyedRatio),
        must: '0.30',
        aim: '0.50',
        holds: keyedRatio >= 0.3,
      },
      {
        measure: '-z zstd, of keyless',
        value: text(packed, packedRatio),
        must: '0.35',
        aim: '0.50',
        holds: packedRatio >= 0.35,
      },
      {
        measure: 'cat f \\| cat > /dev/null',
        value: `${rate(pipe).toFixed(0)} MB/s`,
        must: '',
        aim: '',
        holds: undefined,
      },
      {
        measure: 'stream cat t \\| cat > /dev/null, of it',
        value: text(cat, catRatio),
        must: '0.80',
        aim: '1.00',
        holds: catRatio >= 0.8,
      },
      {
        measure: 'stream cat t --json with key, header, time, of it',
        value: text(json, jsonRatio),
        must: '0.15',
        aim: '0.30',
        holds: jsonRatio >= 0.15,
      },
    ]
  } finally {
    scratch.stop()
  }
}

/** Durable produce of a file that takes seconds: what the disk takes decides, and no start of a process. */
function benchLong(
  scratch: Scratch,
  { longMegabytes, lineBytes, rounds }: ThroughputOptions,
): Row[] {
  const payload = makePayload(scratch.directory, { megabytes: longMegabytes, lineBytes })
  const copy = join(scratch.directory, 'long-copy')
  const records = Math.floor(fileBytes(payload) / lineBytes)
  const results = race(
    scratch,
    [
      {
        name: 'cat',
        prepare: () => {
          run(`rm -f ${copy}; cat ${payload} > /dev/null`, scratch)
        },
        line: () => `cat ${payload} | cat > ${copy}; sync -d ${copy}`,
      },
      {
        name: 'produce',
        prepare: () => {
          run(`rm -f ${copy}; stream topics delete long --if-exists -y -q`, scratch)
          run(`stream topics create long; cat ${payload} > /dev/null`, scratch)
        },
        line: () => `cat ${payload} | stream produce long`,
        check: () => {
          const ends = Number(run(`stream cat long -q | wc -l`, scratch))
          if (ends !== records) throw new Error(`produce: ${ends} of ${records} records are there`)
        },
      },
    ],
    Math.min(rounds, 5),
  )
  run(`stream cat long | cmp - ${payload}`, scratch)
  run(`stream topics delete long -y -q; rm ${payload}`, scratch)
  const baseline = results.get('cat') ?? []
  const produce = results.get('produce') ?? []
  const ratio = medianRatio(baseline, produce)
  const rate = (ms: readonly number[]) => megabytesPerSecond(longMegabytes, median(ms))
  const millions = records / 1e3 / median(produce)
  return [
    {
      measure: `cat f \\| cat > f2; sync -d f2, ${lineBytes} B, ${longMegabytes} MB`,
      value: `${rate(baseline)} MB/s`,
      must: '',
      aim: '',
      holds: undefined,
    },
    {
      measure: 'cat f \\| stream produce t, of it',
      value: `${ratio.toFixed(2)}x  (${rate(produce)} MB/s, ${millions.toFixed(2)} M rec/s)`,
      must: '0.80',
      aim: '0.95',
      holds: ratio >= 0.8,
    },
    {
      measure: 'the same, records',
      value: `${millions.toFixed(2)} M rec/s`,
      must: '4 M',
      aim: '6 M',
      holds: millions >= 4,
    },
  ]
}

function megabytesPerSecond(megabytes: number, ms: number): string {
  return ((megabytes * 1e3) / ms).toFixed(0)
}
