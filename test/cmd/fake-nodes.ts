/** Brokers and where the replicas are, in memory: the part of the fake broker behind `stream cluster`. */

import type { ClusterAdminClient } from '../../cmd/clients.ts'
import { StreamError } from '../../src/base/errors.ts'
import type { BrokerIntroduction } from '../../src/client/cluster-admin.ts'
import { kafkaFailure } from '../../src/client/kafka-failure.ts'
import type { PartitionInfo } from '../../src/client/metadata-cache.ts'

export interface FakeNode {
  readonly nodeId: number
  rack: string | null
  state: 'live' | 'fenced'
  /** Its advertised address answers. */
  isReachable: boolean
  totalBytes: number
  usableBytes: number
  signature: string
}

export interface FakeReplicas {
  leaderId: number
  replicas: number[]
  inSync: number[]
  elr: number[]
}

export class FakeNodes {
  readonly all = new Map<number, FakeNode>()
  readonly replicas = new Map<string, FakeReplicas>()
  readonly bytes = new Map<string, number>()
  /** Moves take until `finishMoves`. */
  holdsMoves = false
  readonly moves = new Map<string, { target: number[]; former: number[] }>()
  readonly orders: string[] = []
  readonly introductions = new Map<number, BrokerIntroduction>()
  controllerId = 1
  readonly #configs = new Map<string, Map<string, string>>()

  constructor() {
    this.add(1)
  }

  add(nodeId: number, fields: Partial<FakeNode> = {}): void {
    this.all.set(nodeId, {
      nodeId,
      rack: null,
      state: 'live',
      isReachable: true,
      totalBytes: 1000,
      usableBytes: 900,
      signature: 'a',
      ...fields,
    })
  }

  place(topic: string, partition: number, replicas: number[], more: Partial<FakeReplicas> = {}) {
    const row = { leaderId: replicas[0] ?? -1, replicas, inSync: [...replicas], elr: [], ...more }
    this.replicas.set(`${topic}/${partition}`, row)
  }

  placeOf(topic: string, partition: number): FakeReplicas {
    const name = `${topic}/${partition}`
    const found = this.replicas.get(name)
    if (found !== undefined) return found
    this.place(topic, partition, [1])
    return this.placeOf(topic, partition)
  }

  partitionInfo(topic: string, partition: number, isLeaderless: boolean): PartitionInfo {
    const { leaderId, replicas, inSync } = this.placeOf(topic, partition)
    return {
      partition,
      leaderId: isLeaderless ? -1 : leaderId,
      leaderEpoch: 0,
      replicas,
      inSyncReplicas: inSync,
      offlineReplicas: replicas.filter((nodeId) => this.all.get(nodeId)?.state !== 'live'),
      errorCode: 0,
    }
  }

  configsOf(name: string): Map<string, string> | undefined {
    if (!/^\d+$/.test(name)) return undefined
    const configs = this.#configs.get(name) ?? new Map<string, string>()
    this.#configs.set(name, configs)
    return configs
  }

  brokers() {
    return new Map(
      [...this.all.values()]
        .filter(({ state }) => state === 'live')
        .map((node) => [node.nodeId, infoOf(node)]),
    )
  }

  finishMoves(): void {
    for (const [name, { target }] of this.moves) this.#finish(name, target)
    this.moves.clear()
  }

  #finish(name: string, target: readonly number[]): void {
    const row = this.replicas.get(name)
    if (row === undefined) return
    row.replicas = [...target]
    row.inSync = target.filter((nodeId) => this.all.get(nodeId)?.state === 'live')
    if (!row.inSync.includes(row.leaderId)) row.leaderId = row.inSync[0] ?? -1
  }

  begin(name: string, target: readonly number[]): void {
    const row = this.replicas.get(name)
    if (row === undefined) return
    const isCopied = target.some((nodeId) => !row.replicas.includes(nodeId))
    if (!this.holdsMoves || !isCopied) {
      this.#finish(name, target)
      return
    }
    const former = row.replicas
    this.moves.set(name, { target: [...target], former })
    row.replicas = [...target, ...former.filter((nodeId) => !target.includes(nodeId))]
  }
}

function infoOf({ nodeId, rack }: FakeNode) {
  const host = `broker${nodeId}`
  return { nodeId, rack, host, port: 9092, address: `kafka://${host}:9092` }
}

export class FakeClusterAdmin implements ClusterAdminClient {
  readonly #nodes: FakeNodes
  readonly #topics: () => Iterable<string>

  constructor(nodes: FakeNodes, topics: () => Iterable<string>) {
    this.#nodes = nodes
    this.#topics = topics
  }

  async describe() {
    const brokers = [...this.#nodes.all.values()].map((node) => ({
      ...infoOf(node),
      isFenced: node.state === 'fenced',
    }))
    return { clusterId: 'CCCC', controllerId: this.#nodes.controllerId, brokers }
  }

  async probe(brokers: readonly { readonly nodeId: number; readonly address: string }[]) {
    return brokers.map(({ nodeId, address }) => {
      const node = this.#nodes.all.get(nodeId)
      return node?.isReachable === true
        ? { nodeId, address, error: undefined, signature: node.signature }
        : { nodeId, address, error: new StreamError('UNREACHABLE', 'no'), signature: undefined }
    })
  }

  async introductions() {
    return this.#nodes.introductions
  }

  async storage(nodeIds: readonly number[]) {
    return nodeIds.map((nodeId) => {
      const node = this.#nodes.all.get(nodeId)
      const partitions = [...this.#nodes.replicas].flatMap(([name, { replicas, inSync }]) => {
        if (!replicas.includes(nodeId)) return []
        const [topic = '', partition] = name.split('/')
        const bytes = this.#nodes.bytes.get(name) ?? 100
        const lag = inSync.includes(nodeId) ? 0 : 7
        return [{ topic, partition: Number(partition), bytes, lag }]
      })
      const { totalBytes = 0, usableBytes = 0 } = node ?? {}
      if (node?.isReachable === false) {
        const error = new StreamError('UNREACHABLE', `broker ${nodeId} does not answer`)
        return { nodeId, error, directories: [] }
      }
      const directory = { path: '/data', error: undefined, totalBytes, usableBytes, partitions }
      return { nodeId, error: undefined, directories: [directory] }
    })
  }

  async eligibleReplicas() {
    return [...this.#nodes.replicas].map(([name, { elr }]) => {
      const [topic = '', partition] = name.split('/')
      return { topic, partition: Number(partition), eligible: elr, lastKnownEligible: [] }
    })
  }

  async electLeaders(
    kind: 'preferred' | 'unclean',
    partitions: readonly { readonly topic: string; readonly partition: number }[],
  ) {
    return partitions.map(({ topic, partition }) => {
      const row = this.#nodes.placeOf(topic, partition)
      const target = `${topic} partition ${partition}`
      this.#nodes.orders.push(`elect ${kind} ${topic}/${partition}`)
      const [first = -1] = row.replicas
      const isLive = (nodeId: number): boolean => this.#nodes.all.get(nodeId)?.state === 'live'
      const next = kind === 'preferred' ? first : (row.replicas.find(isLive) ?? -1)
      if (next < 0 || (kind === 'preferred' && !row.inSync.includes(next))) {
        return { topic, partition, wasNeeded: true, error: kafkaFailure(80, { target }) }
      }
      const wasNeeded = row.leaderId !== next
      row.leaderId = next
      if (kind === 'unclean') row.inSync = [next]
      return { topic, partition, wasNeeded, error: undefined }
    })
  }

  async reassign(
    orders: readonly {
      readonly topic: string
      readonly partition: number
      readonly replicas: readonly number[] | null
    }[],
  ) {
    return orders.map(({ topic, partition, replicas }) => {
      const name = `${topic}/${partition}`
      this.#nodes.orders.push(`${name} ${replicas === null ? 'back' : replicas.join(',')}`)
      const move = this.#nodes.moves.get(name)
      if (replicas !== null) this.#nodes.begin(name, replicas)
      else if (move === undefined) {
        return { topic, partition, error: kafkaFailure(85, { target: name }) }
      } else {
        this.#nodes.moves.delete(name)
        this.#nodes.placeOf(topic, partition).replicas = move.former
      }
      return { topic, partition, error: undefined }
    })
  }

  async reassignments() {
    const topics = new Set(this.#topics())
    return [...this.#nodes.moves].flatMap(([name, { target, former }]) => {
      const [topic = '', partition] = name.split('/')
      if (!topics.has(topic)) return []
      return [
        {
          topic,
          partition: Number(partition),
          replicas: this.#nodes.placeOf(topic, Number(partition)).replicas,
          adding: target.filter((nodeId) => !former.includes(nodeId)),
          removing: former.filter((nodeId) => !target.includes(nodeId)),
        },
      ]
    })
  }

  async unregister(nodeId: number) {
    this.#nodes.orders.push(`forget ${nodeId}`)
    this.#nodes.all.delete(nodeId)
  }
}
