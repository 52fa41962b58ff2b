/** A job that follows at a Kafka door, which answers the requests of a connection one by one. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startKafkaDoor } from '../support/kafka-door.ts'
import { Program } from '../support/program.ts'

let program: Program
beforeAll(() => {
  program = new Program()
})
afterAll(() => program.stop())

it('what a pipe commits does not wait behind its own fetches', async () => {
  const { address } = await startKafkaDoor(program, 'door', [])
  const line = [
    `export STREAM_BROKER=kafka://${address}`,
    'stream topics create in out > made',
    // It asks for records until there are some, for ten seconds at a time.
    'stream -X fetch.max.wait.ms=10000 pipe --in in --out out -j j --barrier line -- cat & job=$!',
    'until stream groups describe j --members 2> /dev/null | grep -q .; do sleep .1; done',
    'sleep 1',
    'stream produce in --value x',
    'stream consume out --from start -n 1 --timeout 8s; echo $?',
    'kill $job; wait $job',
    'true',
  ]
  expect(program.ok(line.join('\n'))).toBe('x\n0\n')
}, 60_000)
