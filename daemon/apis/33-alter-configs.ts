/**
 * AlterConfigs (33), versions 0 to 2: replaces the whole set of a resource's configs. Errors: 3, 17, 40, 42, 41, 7.
 */

import { StreamError } from '../../src/base/errors.ts'
import type { ResponseInput } from '../../src/protocol/api-table.ts'
import { alterResource } from './alter-configs.ts'
import type { Handler } from './handler.ts'

export const alterConfigs: Handler<'AlterConfigs'> = async ({ broker }, _context, request) => {
  const responses: ResponseInput<'AlterConfigs'>['responses'][number][] = []
  for (const resource of request.resources) {
    const edit = (): Record<string, string> => {
      const texts: Record<string, string> = {}
      for (const { name, value } of resource.configs) {
        if (value === null) {
          throw new StreamError('CONFIG_INVALID', `${name}: no value`, { target: name })
        }
        texts[name] = value
      }
      return texts
    }
    responses.push(await alterResource(broker, resource, edit, request.validateOnly))
  }
  return { throttleTimeMs: 0, responses }
}
