/**
 * Microbench of the protocol codec: microseconds for one message of the hot APIs, with 1 and 50 partitions, the best of
 * several passes; a script, not a test. Run: node test/bench/codec.ts
 * Targets: 1.5 µs for one partition, 15 µs for 50 (records are not copied, so their size does not matter).
 */
import {
  decodeRequest,
  decodeResponse,
  encodeRequest,
  encodeResponse,
} from '../../src/protocol/codec.ts'

const WARM_UP_ROUNDS = 20_000
const ROUNDS = 5000
const PASSES = 7

function measure(title: string, action: () => unknown): void {
  for (let round = 0; round < WARM_UP_ROUNDS; round++) action()
  let best = Number.POSITIVE_INFINITY
  for (let pass = 0; pass < PASSES; pass++) {
    const start = process.hrtime.bigint()
    for (let round = 0; round < ROUNDS; round++) action()
    best = Math.min(best, Number(process.hrtime.bigint() - start) / ROUNDS / 1000)
  }
  console.log(`${title.padEnd(48)}${best.toFixed(2).padStart(8)} µs`)
}

const header = { correlationId: 7, clientId: 'stream' }
const records = new Uint8Array(2000)

function list<T>(count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, index) => make(index))
}

for (const count of [1, 50]) {
  const fetchRequest = {
    maxWaitMs: 500,
    minBytes: 1,
    topics: [
      {
        topic: 'orders-topic',
        partitions: list(count, (partition) => ({
          partition,
          currentLeaderEpoch: 5,
          fetchOffset: 12_345_678_901 + partition,
          partitionMaxBytes: 1_048_576,
        })),
      },
    ],
  }
  const fetchFrames = encodeRequest('Fetch', 12, header, fetchRequest)
  measure(`Fetch request write, ${count}`, () => encodeRequest('Fetch', 12, header, fetchRequest))
  measure(`Fetch request read, ${count}`, () => decodeRequest(fetchFrames))

  const fetchResponse = {
    responses: [
      {
        topic: 'orders-topic',
        partitions: list(count, (partitionIndex) => ({
          partitionIndex,
          errorCode: 0,
          highWatermark: 12_345_678_901,
          lastStableOffset: 12_345_678_901,
          logStartOffset: 0,
          abortedTransactions: [],
          records,
        })),
      },
    ],
  }
  const answerFrames = encodeResponse('Fetch', 12, 7, fetchResponse)
  const answer = [Buffer.concat(answerFrames)]
  measure(`Fetch response write, ${count}`, () => encodeResponse('Fetch', 12, 7, fetchResponse))
  measure(`Fetch response read, frames, ${count}`, () => decodeResponse('Fetch', 12, answerFrames))
  measure(`Fetch response read, one frame, ${count}`, () => decodeResponse('Fetch', 12, answer))

  const produceRequest = {
    acks: -1,
    timeoutMs: 30_000,
    topicData: [
      { name: 'orders-topic', partitionData: list(count, (index) => ({ index, records })) },
    ],
  }
  const produceFrames = encodeRequest('Produce', 9, header, produceRequest)
  const produce = [Buffer.concat(produceFrames)]
  measure(`Produce request write, ${count}`, () =>
    encodeRequest('Produce', 9, header, produceRequest),
  )
  measure(`Produce request read, frames, ${count}`, () => decodeRequest(produceFrames))
  measure(`Produce request read, one frame, ${count}`, () => decodeRequest(produce))

  const produceResponse = {
    responses: [
      {
        name: 'orders-topic',
        partitionResponses: list(count, (index) => ({
          index,
          errorCode: 0,
          baseOffset: 123_456_789_012,
          logStartOffset: 0,
        })),
      },
    ],
  }
  const ackFrames = encodeResponse('Produce', 9, 7, produceResponse)
  measure(`Produce response write, ${count}`, () =>
    encodeResponse('Produce', 9, 7, produceResponse),
  )
  measure(`Produce response read, ${count}`, () => decodeResponse('Produce', 9, ackFrames))
}
