/** Resident memory while many bytes go through, with a slow and a stopped consumer beside. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { makePayload, makeScratch, type Row, run } from './harness.ts'

function residentMegabytes(pid: number): number {
  try {
    const line = readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)
    return Number(line?.[1] ?? 0) / 1024
  } catch {
    return 0
  }
}

export async function benchMemory(options: { readonly gigabytes: number }): Promise<Row[]> {
  const scratch = makeScratch()
  try {
    const payload = makePayload(scratch.directory, { megabytes: 250, lineBytes: 100 })
    // Retention keeps the disk small: the bytes go through, they need not stay.
    run(
      'stream topics create flow --set retention.bytes=300000000 --set segment.bytes=104857600',
      scratch,
    )
    const daemon = Number(JSON.parse(run('stream daemon status -o json', scratch)).pid)
    const shell = (line: string) =>
      spawn('bash', ['-c', line], {
        env: scratch.environment,
        cwd: scratch.directory,
        stdio: ['ignore', 'pipe', 'inherit'],
      })
    const direct = (args: string[]) =>
      spawn('stream', args, {
        env: scratch.environment,
        cwd: scratch.directory,
        stdio: ['ignore', 'pipe', 'ignore'],
      })
    const fast = direct(['consume', 'flow', '--from', 'start'])
    fast.stdout.resume()
    // Reads a little each second.
    const slow = direct(['consume', 'flow', '--from', 'start'])
    const sip = setInterval(() => slow.stdout.read(4096), 1000)
    const stopped = direct(['consume', 'flow', '--from', 'start'])
    stopped.stdout.pause()

    const times = Math.ceil((options.gigabytes * 1000) / 250)
    const producer = shell(
      `for i in $(seq ${times}); do cat ${payload}; done | stream produce flow`,
    )
    const most = { daemon: 0, producer: 0, fast: 0, slow: 0, stopped: 0 }
    const sample = setInterval(() => {
      most.daemon = Math.max(most.daemon, residentMegabytes(daemon))
      most.fast = Math.max(most.fast, residentMegabytes(fast.pid ?? 0))
      most.slow = Math.max(most.slow, residentMegabytes(slow.pid ?? 0))
      most.stopped = Math.max(most.stopped, residentMegabytes(stopped.pid ?? 0))
      const children = run(`pgrep -P ${producer.pid ?? 0} -f 'produce flow' || true`, scratch)
        .trim()
        .split('\n')
      for (const child of children)
        if (child !== '') most.producer = Math.max(most.producer, residentMegabytes(Number(child)))
    }, 200)
    const begin = process.hrtime.bigint()
    const status = await new Promise((resolve) => producer.once('close', resolve))
    const seconds = Number(process.hrtime.bigint() - begin) / 1e9
    clearInterval(sample)
    clearInterval(sip)
    for (const child of [fast, slow, stopped]) child.kill('SIGKILL')
    if (status !== 0) throw new Error(`produce ended with ${String(status)}`)
    const row = (measure: string, megabytes: number, limit: number): Row => ({
      measure,
      value: `${megabytes.toFixed(0)} MB`,
      must: `${limit} MB`,
      aim: '',
      holds: megabytes > 0 && megabytes < limit,
    })
    return [
      {
        measure: `${options.gigabytes} GB through, one fast, one slow, one stopped reader`,
        value: `${seconds.toFixed(0)} s`,
        must: '',
        aim: '',
        holds: undefined,
      },
      row('daemon, most resident', most.daemon, 300),
      row('produce, most resident', most.producer, 150),
      row('consume, most resident: the fast one', most.fast, 150),
      row('the slow one', most.slow, 150),
      row('the stopped one', most.stopped, 150),
    ]
  } finally {
    scratch.stop()
  }
}
