/** Why a partition cannot be read on, in the user's words. */
import { StreamError } from '../base/errors.ts'
import { KafkaError } from '../protocol/errors.ts'
import type { Part } from './consumer-part.ts'

export function damaged({ target }: Part, offset: number, detail: string): StreamError {
  return new StreamError('CORRUPT_BATCH', `${target}: damaged batch at ${offset}: ${detail}`, {
    target,
  })
}

/** Records that were read are gone: an unclean election, or a machine that lost what it had not synced. */
export function cutBack(part: Part, offset: number): StreamError {
  const words = `the log was cut back to offset ${offset}: the records read from there on are gone, and others may take their place`
  return outOfRange(part, words)
}

export function beyondEnd(part: Part, logEnd: number): StreamError {
  return outOfRange(part, `position ${part.fetchOffset} is beyond the end ${logEnd}`)
}

export function epochUnknown(part: Part): StreamError {
  const { lastEpoch, fetchOffset } = part
  const words = `the log knows nothing of leader epoch ${lastEpoch}, in which the record before position ${fetchOffset} was read`
  return outOfRange(part, words)
}

function outOfRange({ target }: Part, words: string): StreamError {
  return new StreamError('OFFSET_OUT_OF_RANGE', `${target}: ${words} (OFFSET_OUT_OF_RANGE)`, {
    target,
    kafkaError: KafkaError.OFFSET_OUT_OF_RANGE,
  })
}
