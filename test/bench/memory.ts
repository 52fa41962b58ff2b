/** Resident memory while many bytes go through, with a slow and a stopped consumer beside; and while lines come one by one. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { makePayload, makeScratch, type Row, run } from './harness.ts'
import { openPipe } from './latency.ts'

function residentMegabytes(pid: number): number {
  try {
    const line = readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)
    return Number(line?.[1] ?? 0) / 1024
  } catch {
    return 0
  }
}

interface MemoryOptions {
  readonly gigabytes: number
  /** One after the other, each awaited at the far end of `consume`. */
  readonly lines: number
}

export async function benchMemory(options: MemoryOptions): Promise<Row[]> {
  return [...(await benchBytes(options.gigabytes)), ...(await benchLines(options.lines))]
}

async function benchBytes(gigabytes: number): Promise<Row[]> {
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

    const times = Math.ceil((gigabytes * 1000) / 250)
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
    return [
      {
        measure: `${gigabytes} GB through, one fast, one slow, one stopped reader`,
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

/** What is held for each message is more than its bytes. */
async function benchLines(lines: number): Promise<Row[]> {
  const scratch = makeScratch()
  try {
    run('stream topics create latency', scratch)
    const daemon = Number(JSON.parse(run('stream daemon status -o json', scratch)).pid)
    const pipe = await openPipe(scratch)
    await pipe.measure(lines)
    const most = [daemon, pipe.producerPid, pipe.consumerPid].map(mostResidentMegabytes)
    await pipe.close()
    const [ofDaemon = 0, ofProducer = 0, ofConsumer = 0] = most
    return [
      row(`${lines} lines one by one: daemon, most resident`, ofDaemon, 300),
      row('produce, most resident', ofProducer, 150),
      row('consume, most resident', ofConsumer, 150),
    ]
  } finally {
    scratch.stop()
  }
}

function mostResidentMegabytes(pid: number): number {
  const line = readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmHWM:\s+(\d+)/)
  return Number(line?.[1] ?? 0) / 1024
}

function row(measure: string, megabytes: number, limit: number): Row {
  return {
    measure,
    value: `${megabytes.toFixed(0)} MB`,
    must: `${limit} MB`,
    aim: '',
    holds: megabytes > 0 && megabytes < limit,
  }
}
