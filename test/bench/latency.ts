/** One line at a time through `stream produce` and a following `stream consume`, both behind pipes, durable. */
import { makeScratch, quantile, type Row, run, start } from './harness.ts'

export async function benchLatency(options: {
  readonly lines: number
  readonly rounds: number
}): Promise<Row[]> {
  const scratch = makeScratch()
  try {
    run('stream topics create latency', scratch)
    const p50: number[] = []
    const p99: number[] = []
    for (let round = 0; round < options.rounds; round++) {
      const producer = start('stream', ['produce', 'latency'], scratch)
      const consumer = start('stream', ['consume', 'latency'], scratch)
      const samples: number[] = []
      let arrived: (() => void) | undefined
      let pending = ''
      consumer.stdout.on('data', (chunk: Buffer) => {
        pending += chunk.toString('latin1')
        if (!pending.endsWith('\n')) return
        pending = ''
        arrived?.()
      })
      const roundTrip = (line: string) =>
        new Promise<void>((resolve) => {
          arrived = resolve
          producer.stdin.write(line)
        })
      // The consumer starts at the end of the topic: repeat a first line until it is seen.
      let seen = false
      const first = new Promise<void>((resolve) => {
        arrived = () => {
          seen = true
          resolve()
        }
      })
      while (!seen) {
        producer.stdin.write('hello\n')
        await Promise.race([first, new Promise((resolve) => setTimeout(resolve, 100))])
      }
      await new Promise((resolve) => setTimeout(resolve, 300))
      for (let index = 0; index < options.lines; index++) {
        const begin = process.hrtime.bigint()
        await roundTrip(`line ${index} ${'x'.repeat(80)}\n`)
        samples.push(Number(process.hrtime.bigint() - begin) / 1e6)
      }
      producer.stdin.end()
      await new Promise((resolve) => producer.once('close', resolve))
      consumer.kill('SIGTERM')
      await new Promise((resolve) => consumer.once('close', resolve))
      const steady = samples.slice(Math.floor(samples.length / 10))
      p50.push(quantile(steady, 0.5))
      p99.push(quantile(steady, 0.99))
    }
    const middle = quantile(p50, 0.5)
    const tail = quantile(p99, 0.5)
    return [
      {
        measure: 'one line, pipe to pipe, durable, p50',
        value: `${middle.toFixed(2)} ms`,
        must: '0.7 ms',
        aim: '0.4 ms',
        holds: middle <= 0.7,
      },
      {
        measure: 'the same, p99',
        value: `${tail.toFixed(2)} ms`,
        must: '1.5 ms',
        aim: '0.8 ms',
        holds: tail <= 1.5,
      },
    ]
  } finally {
    scratch.stop()
  }
}
