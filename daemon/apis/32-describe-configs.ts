/**
 * DescribeConfigs (32), versions 1 to 4. Every known config of a topic or broker with its value, where the value comes
 * from, and what it overrides (P11). Errors: 3, 17, 42 (a resource of another type, or another broker).
 */

import type { ConfigKey } from '../../src/config/config-key.ts'
import { findKey } from '../../src/config/keys.ts'
import type { Request, ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { PATH_KEY, shownPath } from '../links/mirror-paths.ts'
import { findTopicNameDefect } from '../metadata/topic-names.ts'
import type { Broker } from '../replica/broker.ts'
import type { TopicOrigin } from '../replica/broker-config.ts'
import { BROKER_RESOURCE, brokerScope, sourceOf, TOPIC_RESOURCE, typeOf } from './config-values.ts'
import type { Handler } from './handler.ts'

type Result = ResponseInput<'DescribeConfigs'>['results'][number]
type Config = Result['configs'][number]
type Resource = Request<'DescribeConfigs'>['resources'][number]
type Synonym = NonNullable<Config['synonyms']>[number]

/** Kafka's ConfigType.STRING. */
const STRING_TYPE = 2

export const describeConfigs: Handler<'DescribeConfigs'> = ({ broker }, _context, request) => ({
  throttleTimeMs: 0,
  results: request.resources.map((resource) => {
    switch (resource.resourceType) {
      case TOPIC_RESOURCE:
        return describeTopic(broker, resource, request)
      case BROKER_RESOURCE:
        return describeBroker(broker, resource, request)
      default:
        return refuse(resource, KafkaError.INVALID_REQUEST, 'only topics and brokers have configs')
    }
  }),
})

function describeTopic(
  broker: Broker,
  resource: Resource,
  request: Request<'DescribeConfigs'>,
): Result {
  const name = resource.resourceName
  const defect = findTopicNameDefect(name)
  if (defect !== undefined) return refuse(resource, KafkaError.INVALID_TOPIC_EXCEPTION, defect)
  const topic = broker.image.topic(name)
  if (topic === undefined || topic.value.state !== 'READY') {
    return refuse(resource, KafkaError.UNKNOWN_TOPIC_OR_PARTITION, 'no such topic')
  }
  const replicas = broker.image.partition(topic.topicId, 0)?.value.replicas.length ?? 1
  const brokerOrigins = new Map(broker.config.describe().map((entry) => [entry.key.name, entry]))
  const configs: Config[] = []
  for (const { name, text, origin } of broker.config.describeTopic(topic.value.config, replicas)) {
    const key = findKey('topic', name)
    if (key === undefined || !isWanted(resource, name)) continue
    const synonyms: Synonym[] = []
    if (request.includeSynonyms) {
      if (origin === 'topic') synonyms.push({ name, value: text, source: sourceOf('topic') })
      const entry = key.synonym === undefined ? undefined : brokerOrigins.get(key.synonym)
      if (entry !== undefined && entry.text !== null) {
        const source = sourceOf(entry.origin)
        synonyms.push({ name: entry.key.name, value: entry.text, source })
      }
    }
    configs.push(give(key, text, origin, false, synonyms, request))
  }
  if (resource.configurationKeys?.includes(PATH_KEY) === true) {
    configs.push(...mirrorPath(broker, name))
  }
  return {
    errorCode: 0,
    errorMessage: null,
    resourceType: TOPIC_RESOURCE,
    resourceName: name,
    configs,
  }
}

/** No config, and listed only for who knows of it: through which clusters a mirror's records came. */
function mirrorPath(broker: Broker, topic: string): Config[] {
  const value = shownPath(broker.image, topic)
  if (value === undefined) return []
  return [
    {
      name: PATH_KEY,
      value,
      readOnly: true,
      configSource: sourceOf('default'),
      isSensitive: false,
      synonyms: [],
      configType: STRING_TYPE,
      documentation: null,
    },
  ]
}

function describeBroker(
  broker: Broker,
  resource: Resource,
  request: Request<'DescribeConfigs'>,
): Result {
  const scope = brokerScope(resource.resourceName, broker.nodeId)
  if (scope === undefined) {
    return refuse(resource, KafkaError.INVALID_REQUEST, `no broker ${resource.resourceName}`)
  }
  const configs: Config[] = []
  for (const { key, text, origin, isReadOnly } of broker.config.describe()) {
    // The resource without name holds what was set for all brokers, and nothing else.
    if (scope === 'broker' && !Object.hasOwn(broker.image.config(scope).value, key.name)) continue
    if (!isWanted(resource, key.name)) continue
    const isForAll = scope === 'broker'
    const shown = isForAll ? (broker.image.config(scope).value[key.name] ?? null) : text
    const shownOrigin = isForAll ? 'dynamicDefault' : origin
    const synonyms =
      request.includeSynonyms && shown !== null
        ? [{ name: key.name, value: shown, source: sourceOf(shownOrigin) }]
        : []
    configs.push(give(key, shown, shownOrigin, isReadOnly, synonyms, request))
  }
  const { resourceName } = resource
  return { errorCode: 0, errorMessage: null, resourceType: BROKER_RESOURCE, resourceName, configs }
}

function give(
  key: ConfigKey,
  text: string | null,
  origin: TopicOrigin,
  readOnly: boolean,
  synonyms: readonly Synonym[],
  request: Request<'DescribeConfigs'>,
): Config {
  const isSensitive = key.type === 'secret'
  return {
    name: key.name,
    value: isSensitive ? null : text,
    readOnly,
    configSource: sourceOf(origin),
    isSensitive,
    synonyms,
    configType: typeOf(key),
    documentation: request.includeDocumentation ? key.help : null,
  }
}

function isWanted(resource: Resource, name: string): boolean {
  return resource.configurationKeys === null || resource.configurationKeys.includes(name)
}

function refuse(resource: Resource, errorCode: number, errorMessage: string): Result {
  const { resourceType, resourceName } = resource
  return { errorCode, errorMessage, resourceType, resourceName, configs: [] }
}
