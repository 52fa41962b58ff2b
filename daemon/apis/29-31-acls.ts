/** DescribeAcls (29), CreateAcls (30), DeleteAcls (31), versions 1 to 3: access rules are off, error 54. */

import { KafkaError } from '../../src/protocol/errors.ts'
import type { Handler } from './handler.ts'

const off = { errorCode: KafkaError.SECURITY_DISABLED, errorMessage: 'access rules are off' }

export const describeAcls: Handler<'DescribeAcls'> = () => ({
  throttleTimeMs: 0,
  ...off,
  resources: [],
})

export const createAcls: Handler<'CreateAcls'> = (_services, _context, request) => ({
  throttleTimeMs: 0,
  results: request.creations.map(() => off),
})

export const deleteAcls: Handler<'DeleteAcls'> = (_services, _context, request) => ({
  throttleTimeMs: 0,
  filterResults: request.filters.map(() => ({ ...off, matchingAcls: [] })),
})
