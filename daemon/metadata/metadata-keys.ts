/**
 * The keys of the metadata store (replication.md section 5.2). All lie under `/stream/<clusterId>/`; these names are
 * permanent. Partition numbers are padded to ten digits, so that a listing comes in their order.
 */

export const STORE_PREFIX = '/stream/'

export type MetadataKey =
  | { readonly kind: 'meta' }
  | { readonly kind: 'controller' }
  | { readonly kind: 'live'; readonly nodeId: number }
  | { readonly kind: 'registration'; readonly nodeId: number }
  | { readonly kind: 'data'; readonly nodeId: number }
  | { readonly kind: 'full'; readonly nodeId: number }
  | { readonly kind: 'topic'; readonly name: string }
  | { readonly kind: 'partition'; readonly topicId: string; readonly partition: number }
  | { readonly kind: 'deleted'; readonly topicId: string }
  | { readonly kind: 'config'; readonly scope: string }
  | { readonly kind: 'user'; readonly name: string }
  | { readonly kind: 'producerIds' }
  | { readonly kind: 'restored' }
  | { readonly kind: 'link'; readonly name: string }
  | { readonly kind: 'mirror'; readonly topic: string }
  | { readonly kind: 'mirrored'; readonly topicId: string; readonly partition: number }

export class MetadataKeys {
  readonly clusterId: string
  readonly prefix: string

  constructor(clusterId: string) {
    this.clusterId = clusterId
    this.prefix = `${STORE_PREFIX}${clusterId}/`
  }

  meta(): string {
    return `${this.prefix}meta`
  }

  controller(): string {
    return `${this.prefix}controller`
  }

  live(nodeId: number): string {
    return `${this.prefix}live/${nodeId}`
  }

  registration(nodeId: number): string {
    return `${this.prefix}reg/${nodeId}`
  }

  data(nodeId: number): string {
    return `${this.prefix}data/${nodeId}`
  }

  /** There while the broker's disk is full. */
  full(nodeId: number): string {
    return `${this.prefix}full/${nodeId}`
  }

  topic(name: string): string {
    return `${this.prefix}topic/${name}`
  }

  partition(topicId: string, partition: number): string {
    return `${this.prefix}part/${topicId}/${String(partition).padStart(10, '0')}`
  }

  /** A link to another cluster, as it was ordered. */
  link(name: string): string {
    return `${this.prefix}link/${name}`
  }

  /** What a link makes of one topic. */
  mirror(topic: string): string {
    return `${this.prefix}mirror/${topic}`
  }

  /** What a partition has of its source; written by its leader. */
  mirrored(topicId: string, partition: number): string {
    return `${this.prefix}mirrored/${topicId}/${String(partition).padStart(10, '0')}`
  }

  deleted(topicId: string): string {
    return `${this.prefix}deleted/${topicId}`
  }

  /** `scope`: `broker/<nodeId>` for one broker, `broker` for all of them. */
  config(scope: string): string {
    return `${this.prefix}cfg/${scope}`
  }

  /** What proves the passwords of a user. */
  user(name: string): string {
    return `${this.prefix}scram/${name}`
  }

  producerIds(): string {
    return `${this.prefix}pid/next`
  }

  /** The operator's word that this store counts although it is an older copy of itself. */
  restored(): string {
    return `${this.prefix}restored`
  }

  /** What a key stands for; undefined for one of a later version, which is left alone. */
  parse(key: string): MetadataKey | undefined {
    if (!key.startsWith(this.prefix)) return undefined
    const path = key.slice(this.prefix.length)
    const slash = path.indexOf('/')
    const head = slash < 0 ? path : path.slice(0, slash)
    const rest = slash < 0 ? '' : path.slice(slash + 1)
    switch (head) {
      case 'meta':
        return { kind: 'meta' }
      case 'controller':
        return { kind: 'controller' }
      case 'live':
      case 'reg':
      case 'data':
      case 'full': {
        const nodeId = parseNumber(rest)
        if (nodeId === undefined) return undefined
        return { kind: head === 'reg' ? 'registration' : head, nodeId }
      }
      case 'topic':
        return rest === '' ? undefined : { kind: 'topic', name: rest }
      case 'part':
      case 'mirrored': {
        const cut = rest.indexOf('/')
        const partition = cut < 0 ? undefined : parseNumber(rest.slice(cut + 1))
        if (partition === undefined) return undefined
        const topicId = rest.slice(0, cut)
        if (head === 'mirrored') return { kind: 'mirrored', topicId, partition }
        return { kind: 'partition', topicId, partition }
      }
      case 'link':
        return rest === '' ? undefined : { kind: 'link', name: rest }
      case 'mirror':
        return rest === '' ? undefined : { kind: 'mirror', topic: rest }
      case 'deleted':
        return rest === '' ? undefined : { kind: 'deleted', topicId: rest }
      case 'cfg':
        return rest === '' ? undefined : { kind: 'config', scope: rest }
      case 'scram':
        return rest === '' ? undefined : { kind: 'user', name: rest }
      case 'restored':
        return rest === '' ? { kind: 'restored' } : undefined
      case 'pid':
        return rest === 'next' ? { kind: 'producerIds' } : undefined
      default:
        return undefined
    }
  }
}

/** The cluster that a key belongs to, undefined when it is none of ours. */
export function clusterOfKey(key: string): string | undefined {
  if (!key.startsWith(STORE_PREFIX)) return undefined
  const end = key.indexOf('/', STORE_PREFIX.length)
  return end < 0 ? undefined : key.slice(STORE_PREFIX.length, end)
}

function parseNumber(text: string): number | undefined {
  if (!/^\d{1,10}$/.test(text)) return undefined
  const value = Number(text)
  return value <= 0x7fffffff ? value : undefined
}
