/** What AlterConfigs (33) and IncrementalAlterConfigs (44) share: validate everything of a resource, then write once. */

import { isStreamError, StreamError } from '../../src/base/errors.ts'
import { splitList } from '../../src/config/config-key.ts'
import { findKey, unknownKeyMessage } from '../../src/config/keys.ts'
import { validateTopicConfig } from '../../src/config/topic-config.ts'
import type { ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { findTopicNameDefect } from '../metadata/topic-names.ts'
import type { Broker } from '../replica/broker.ts'
import { checkDynamicConfig, type Texts } from '../replica/broker-config.ts'
import { BROKER_RESOURCE, brokerScope, TOPIC_RESOURCE } from './config-values.ts'
import { codeOfError, messageOfError } from './kafka-codes.ts'

type Answer = ResponseInput<'AlterConfigs'>['responses'][number]

export interface ConfigResource {
  readonly resourceType: number
  readonly resourceName: string
}

/** The new texts of a resource, made of those in force. @throws StreamError CONFIG_INVALID, RECORD_INVALID */
export type ConfigEdit = (before: Texts) => Texts

export async function alterResource(
  broker: Broker,
  resource: ConfigResource,
  edit: ConfigEdit,
  validateOnly: boolean,
): Promise<Answer> {
  const { resourceType, resourceName } = resource
  const answer = (errorCode: number, errorMessage: string | null): Answer => ({
    errorCode,
    errorMessage,
    resourceType,
    resourceName,
  })
  try {
    if (resourceType === TOPIC_RESOURCE) {
      const defect = findTopicNameDefect(resourceName)
      if (defect !== undefined) return answer(KafkaError.INVALID_TOPIC_EXCEPTION, defect)
      const topic = broker.image.topic(resourceName)
      if (topic === undefined || topic.value.state !== 'READY') {
        return answer(KafkaError.UNKNOWN_TOPIC_OR_PARTITION, 'no such topic')
      }
      const checked: ConfigEdit = (before) => {
        const texts = edit(before)
        validateTopicConfig(texts)
        return texts
      }
      if (validateOnly) checked(topic.value.config)
      else await broker.topics.configure(resourceName, checked)
      return answer(0, null)
    }
    const scope =
      resourceType === BROKER_RESOURCE
        ? brokerScope(resourceName, registeredId(broker, resourceName))
        : undefined
    if (scope === undefined) {
      return answer(
        KafkaError.INVALID_REQUEST,
        'only topics and the brokers of the cluster have configs',
      )
    }
    const checked: ConfigEdit = (before) => {
      const texts = edit(before)
      for (const [name, text] of Object.entries(texts)) checkDynamicConfig(name, text)
      return texts
    }
    if (validateOnly) checked(broker.image.config(scope).value)
    else await broker.topics.configureBroker(scope, checked)
    return answer(0, null)
  } catch (error) {
    if (!isStreamError(error)) throw error
    const code = error.code === 'RECORD_INVALID' ? KafkaError.INVALID_REQUEST : codeOfError(error)
    return answer(code, messageOfError(error))
  }
}

/** The controller writes the configs of every broker there is, not of itself alone. */
function registeredId(broker: Broker, resourceName: string): number {
  const nodeId = /^\d{1,10}$/.test(resourceName) ? Number(resourceName) : -1
  return broker.image.registration(nodeId) === undefined ? broker.nodeId : nodeId
}

/** Elements added to, or taken from, a value of type list. @throws StreamError CONFIG_INVALID */
export function editList(
  scope: 'topic' | 'broker',
  name: string,
  before: string,
  change: { readonly kind: 'append' | 'subtract'; readonly elements: string },
): string {
  const key = findKey(scope, name)
  if (key === undefined) {
    throw new StreamError('CONFIG_INVALID', unknownKeyMessage(scope, name), { target: name })
  }
  if (key.type !== 'list') {
    throw new StreamError('CONFIG_INVALID', `${name}: is no list to add to or take from`, {
      target: name,
    })
  }
  const elements = splitList(before)
  const changed = splitList(change.elements)
  if (change.kind === 'subtract') {
    return elements.filter((element) => !changed.includes(element)).join(',')
  }
  return [...elements, ...changed.filter((element) => !elements.includes(element))].join(',')
}
