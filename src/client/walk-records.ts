/** All records of the ranges that a consumer was assigned, for whoever reads something small to its end. */
import { RecordCursor } from '../record/record-cursor.ts'
import type { Consumer } from './consumer.ts'

/**
 * Until the consumer is done, or was closed by somebody else. The cursor is valid within a visit only.
 * @throws StreamError of the first partition that fails; what `visit` throws
 */
export async function walkRecords(
  consumer: Pick<Consumer, 'isDone' | 'poll' | 'wait'>,
  visit: (cursor: RecordCursor, partition: number) => void,
): Promise<void> {
  const cursor = new RecordCursor()
  while (!consumer.isDone) {
    const event = consumer.poll()
    if (event === undefined) await consumer.wait()
    else if (event.kind === 'failed') throw event.error
    else if (event.kind === 'records') {
      for (const at of event.batches) {
        cursor.reset(event.bytes, at)
        while (cursor.next()) {
          if (cursor.offset >= event.fromOffset) visit(cursor, event.partition)
        }
      }
    }
  }
}
