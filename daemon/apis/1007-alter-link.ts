/**
 * AlterLink (1007), private: pauses, resumes, promotes or ends a link, or some topics of it. By the controller. Answered when
 * the order is in the store; the leaders carry it out (DescribeLinks tells how far they are).
 */

import { StreamError } from '../../src/base/errors.ts'
import { refusal } from './1006-create-link.ts'
import type { Handler } from './handler.ts'

const actions = ['pause', 'resume', 'promote', 'unlink'] as const

export const alterLink: Handler<'AlterLink'> = async ({ links }, _context, request) => {
  try {
    const action = actions.find((known) => known === request.action)
    if (action === undefined) {
      throw new StreamError('CONFIG_INVALID', `${request.action}: no such action on a link`)
    }
    const topics = await links.orders.alter(request.name, action, request.topics)
    return { failure: null, message: null, topics }
  } catch (error) {
    return refusal(error)
  }
}
