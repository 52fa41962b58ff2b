/**
 * The broker's configs in force: what was set at the start (flag, environment, file), and on top what was altered
 * through the protocol for all brokers or for this one. Defaults of topics follow from it by the keys' synonyms.
 */

import { StreamError } from '../../src/base/errors.ts'
import { type ConfigKey, type ConfigSet, checkConfigValue } from '../../src/config/config-key.ts'
import {
  type BrokerKeyName,
  brokerKeys,
  findKey,
  topicKeys,
  unknownKeyMessage,
} from '../../src/config/keys.ts'
import {
  describeTopicConfig,
  parseBrokerConfig,
  parseTopicConfig,
  type TopicConfig,
} from '../../src/config/topic-config.ts'

export type BrokerConfigOrigin = 'dynamicBroker' | 'dynamicDefault' | 'static' | 'default'

export interface DescribedBrokerConfig {
  readonly key: ConfigKey
  /** null: no value, or a secret. */
  readonly text: string | null
  readonly origin: BrokerConfigOrigin
  readonly isReadOnly: boolean
}

export type Texts = Readonly<Record<string, string>>

/** Read at each use, so a change takes effect at once; all others only at a start. */
const dynamicKeys: ReadonlySet<string> = new Set([
  'auto.create.topics.enable',
  'default.replication.factor',
  'delete.topic.enable',
  'fetch.max.bytes',
  'follower.replication.throttled.rate',
  'leader.replication.throttled.rate',
  'num.partitions',
  'stream.scrub.interval.ms',
  'stream.scrub.max.bytes.per.second',
  ...topicKeys.flatMap((key) => ('synonym' in key ? [key.synonym] : [])),
])

export class BrokerConfig {
  readonly #static: ReadonlyMap<string, string>
  #dynamicDefault: Texts = {}
  #dynamicBroker: Texts = {}
  #texts: ReadonlyMap<string, string>
  #set: ConfigSet<BrokerKeyName>
  /** Read once for each topic's texts, by number of replicas: the controller asks for every topic in every pass. */
  #topics = new WeakMap<Texts, Map<number, TopicConfig>>()

  /** @throws StreamError CONFIG_INVALID */
  constructor(texts: ReadonlyMap<string, string>) {
    this.#static = texts
    this.#texts = texts
    this.#set = parseBrokerConfig(texts)
  }

  /** @throws StreamError CONFIG_INVALID; nothing changed then */
  setDynamic(forAll: Texts, forThis: Texts): void {
    const texts = new Map([...this.#static, ...Object.entries(forAll), ...Object.entries(forThis)])
    this.#set = parseBrokerConfig(texts)
    this.#texts = texts
    this.#dynamicDefault = forAll
    this.#dynamicBroker = forThis
    this.#topics = new WeakMap()
  }

  number(name: BrokerKeyName): number {
    return this.#set.number(name)
  }

  boolean(name: BrokerKeyName): boolean {
    return this.#set.boolean(name)
  }

  list(name: BrokerKeyName): readonly string[] {
    return this.#set.list(name)
  }

  text(name: BrokerKeyName): string | null {
    return this.#set.text(name)
  }

  /** default.replication.factor: the number of brokers, at most 3, where nobody set it. */
  replicationFactor(brokers: number): number {
    const set = this.#set.number('default.replication.factor')
    return Number.isNaN(set) ? Math.max(1, Math.min(3, brokers)) : set
  }

  /**
   * @param texts  never changed afterwards: what was read of them is kept
   * @throws StreamError CONFIG_INVALID
   */
  topicConfig(texts: Texts, replicationFactor: number): TopicConfig {
    let known = this.#topics.get(texts)
    if (known === undefined) {
      known = new Map()
      this.#topics.set(texts, known)
    }
    let config = known.get(replicationFactor)
    if (config === undefined) {
      config = parseTopicConfig(texts, { broker: this.#texts, replicationFactor })
      known.set(replicationFactor, config)
    }
    return config
  }

  describeTopic(
    texts: Texts,
    replicationFactor: number,
  ): readonly { readonly name: string; readonly text: string; readonly origin: TopicOrigin }[] {
    const options = { broker: this.#texts, replicationFactor }
    return describeTopicConfig(texts, options).map(({ name, text, origin }) => ({
      name,
      text,
      origin: origin === 'broker' ? this.#synonymOrigin(name) : origin,
    }))
  }

  describe(): readonly DescribedBrokerConfig[] {
    return brokerKeys
      .filter((key) => key.hidden !== true)
      .map((key) => ({
        key,
        text: key.type === 'secret' ? null : this.#set.text(key.name),
        origin: this.#originOf(key.name),
        isReadOnly: !dynamicKeys.has(key.name),
      }))
  }

  /** Where a broker key's value comes from. */
  #originOf(name: string): BrokerConfigOrigin {
    if (Object.hasOwn(this.#dynamicBroker, name)) return 'dynamicBroker'
    if (Object.hasOwn(this.#dynamicDefault, name)) return 'dynamicDefault'
    return this.#static.has(name) ? 'static' : 'default'
  }

  #synonymOrigin(topicKey: string): TopicOrigin {
    const synonym = findKey('topic', topicKey)?.synonym
    const origin = synonym === undefined ? 'default' : this.#originOf(synonym)
    // The keys in hours and minutes speak for their topic key only from the static texts.
    return origin === 'default' ? 'static' : origin
  }
}

export type TopicOrigin = 'topic' | BrokerConfigOrigin

/** @throws StreamError CONFIG_INVALID: unknown, not to be changed while running, or no value of its key */
export function checkDynamicConfig(name: string, text: string): void {
  const key = findKey('broker', name)
  if (key === undefined) {
    throw new StreamError('CONFIG_INVALID', unknownKeyMessage('broker', name), { target: name })
  }
  if (!dynamicKeys.has(name)) {
    throw new StreamError('CONFIG_INVALID', `${name}: cannot be changed while the daemon runs`, {
      target: name,
    })
  }
  checkConfigValue(key, text)
}
