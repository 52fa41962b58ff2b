/** ListPartitionReassignments (46), version 0: with one broker nothing is ever being moved. */

import type { Handler } from './handler.ts'

export const listPartitionReassignments: Handler<'ListPartitionReassignments'> = () => ({
  throttleTimeMs: 0,
  errorCode: 0,
  errorMessage: null,
  topics: [],
})
