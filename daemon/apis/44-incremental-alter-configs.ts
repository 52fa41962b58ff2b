/**
 * IncrementalAlterConfigs (44), versions 0 and 1: SET 0, DELETE 1, APPEND 2, SUBTRACT 3 (lists only) on single configs
 * of a resource. Errors: 3, 17, 40, 42 (one config twice, an unknown operation), 41, 7.
 */

import { StreamError } from '../../src/base/errors.ts'
import { findKey } from '../../src/config/keys.ts'
import type { Request, ResponseInput } from '../../src/protocol/api-table.ts'
import type { Texts } from '../replica/broker-config.ts'
import { alterResource, editList } from './alter-configs.ts'
import { TOPIC_RESOURCE } from './config-values.ts'
import type { Handler } from './handler.ts'

type Resource = Request<'IncrementalAlterConfigs'>['resources'][number]

const SET = 0
const DELETE = 1
const APPEND = 2
const SUBTRACT = 3

export const incrementalAlterConfigs: Handler<'IncrementalAlterConfigs'> = async (
  { broker },
  _context,
  request,
) => {
  const responses: ResponseInput<'IncrementalAlterConfigs'>['responses'][number][] = []
  for (const resource of request.resources) {
    const edit = (before: Texts): Texts => editTexts(resource, before)
    responses.push(await alterResource(broker, resource, edit, request.validateOnly))
  }
  return { throttleTimeMs: 0, responses }
}

function editTexts(resource: Resource, before: Texts): Texts {
  const scope = resource.resourceType === TOPIC_RESOURCE ? 'topic' : 'broker'
  const texts: Record<string, string> = { ...before }
  const seen = new Set<string>()
  for (const { name, configOperation, value } of resource.configs) {
    if (seen.has(name)) {
      throw new StreamError('RECORD_INVALID', `${name}: stands in the request twice`)
    }
    seen.add(name)
    if (configOperation === DELETE) {
      delete texts[name]
      continue
    }
    if (value === null) {
      throw new StreamError('CONFIG_INVALID', `${name}: no value`, { target: name })
    }
    switch (configOperation) {
      case SET:
        texts[name] = value
        break
      case APPEND:
      case SUBTRACT: {
        const kind = configOperation === APPEND ? 'append' : 'subtract'
        const inForce = texts[name] ?? findKey(scope, name)?.default ?? ''
        texts[name] = editList(scope, name, inForce, { kind, elements: value })
        break
      }
      default:
        throw new StreamError('RECORD_INVALID', `unknown operation ${configOperation} on ${name}`)
    }
  }
  return texts
}
