/** Time to serve after kill -9, with many partitions and much data; and what an idle partition costs. */
import { readFileSync } from 'node:fs'
import { makePayload, makeScratch, type Row, run, time } from './harness.ts'

export function benchRestart(options: {
  readonly partitions: number
  readonly gigabytes: number
}): Row[] {
  const scratch = makeScratch()
  try {
    const megabytesEach = Math.ceil((options.gigabytes * 1000) / options.partitions)
    const payload = makePayload(scratch.directory, { megabytes: megabytesEach, lineBytes: 100 })
    const status = () => JSON.parse(run('stream daemon status -o json', scratch)) as { pid: number }
    run('stream daemon start', scratch)
    const resident = () =>
      Number(
        readFileSync(`/proc/${status().pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)?.[1] ?? 0,
      ) / 1024
    const before = resident()
    const createMs = time(`stream topics create many --partitions ${options.partitions}`, scratch)
    run('sleep 2', scratch)
    const idleMegabytes = resident() - before
    const last = options.partitions - 1
    run(`seq 0 ${last} | xargs -P 2 -I@ sh -c 'stream produce many -p @ < ${payload}'`, scratch)
    process.kill(status().pid, 'SIGKILL')
    run(
      'while stream topics list -b ipc://$XDG_RUNTIME_DIR/stream/daemon.sock > /dev/null 2>&1; do sleep 0.05; done',
      scratch,
    )
    const startMs = time('stream daemon start && stream topics describe many > /dev/null', scratch)
    const readable = time('stream cat many -n 1 > /dev/null', scratch)
    return [
      {
        measure: `start after kill -9, ${options.partitions} partitions, ${options.gigabytes} GB`,
        value: `${(startMs / 1000).toFixed(2)} s`,
        must: '5 s',
        aim: '',
        holds: startMs < 5000,
      },
      {
        measure: 'first record read after it',
        value: `${readable.toFixed(0)} ms`,
        must: '',
        aim: '',
        holds: undefined,
      },
      {
        measure: `creating ${options.partitions} partitions`,
        value: `${(createMs / 1000).toFixed(2)} s`,
        must: '',
        aim: '',
        holds: undefined,
      },
      {
        measure: 'idle memory a partition (100,000 of them)',
        value: `${((idleMegabytes * 1024) / options.partitions).toFixed(1)} KB (${((idleMegabytes * 100_000) / options.partitions / 1024).toFixed(2)} GB)`,
        must: '',
        aim: '',
        holds: undefined,
      },
    ]
  } finally {
    scratch.stop()
  }
}
