/**
 * A single daemon's data directory becomes the first broker of a cluster (replication.md, section 15, "Growing"): its metadata is
 * copied from the embedded home into etcd, under the same cluster id.
 *
 * Order, each step durable before the next:
 *   1. the mark `moving`: no daemon opens the directory from here on
 *   2. etcd: data/<b>, whose revision is the new data epoch D and the guard of all that follows; then topics, partitions with D
 *      in their entries, configs …; last, in one transaction, `meta` and the name of the cluster, before which no daemon finds it
 *   3. the directory: session file and clean marker with D, the mark `moved`
 *
 * Invariants:
 * - The name appears in etcd once, and only with everything under it.
 * - Killed anywhere, another run goes on: before the name is there it copies anew, after it only step 3 is left.
 */

import { StreamError } from '../../src/base/errors.ts'
import type { AdoptionSummary } from '../../src/ports/adoption.ts'
import type { Disk } from '../../src/ports/disk.ts'
import type { MetadataStore, StoreEntry, StoreOperation } from '../../src/ports/metadata-store.ts'
import type { Random } from '../../src/ports/random.ts'
import type { Time } from '../../src/ports/time.ts'
import {
  CLEAN_NAME,
  type DirectoryMeta,
  encodeCleanShutdown,
  META_NAME,
  parseCleanShutdown,
  parseMeta,
} from '../log/directory-files.ts'
import { clusterNameKey } from '../metadata/cluster-name.ts'
import { commit, type GuardedWrite, type Store } from '../metadata/commit.ts'
import { MetadataKeys } from '../metadata/metadata-keys.ts'
import {
  decodeData,
  decodePartition,
  encodeData,
  encodeMeta,
  encodePartition,
  type Member,
} from '../metadata/metadata-values.ts'
import {
  type MovedMark,
  readMovedMark,
  writeDurably,
  writeMovedMark,
} from '../metadata/moved-home.ts'
import { SessionFile, type SessionRecord } from '../metadata/session-file.ts'
import { newUuid } from '../metadata/topic-names.ts'

export interface AdoptionPorts {
  readonly time: Time
  readonly random: Random
  readonly disk: Disk
  /** The embedded home; the directory is locked when it is called. */
  readonly openHome: () => Promise<MetadataStore>
  readonly openCluster: () => Promise<MetadataStore>
}

export interface AdoptionTarget {
  readonly dataDirectory: string
  readonly cluster: string
  readonly isDryRun: boolean
}

/** Of one transaction; etcd allows 128 operations, the guards among them, and 1.5 MiB. */
const CHUNK_OPERATIONS_MAX = 100
const CHUNK_BYTES_MAX = 512 * 1024
const REASON = 'adopted from a single daemon'

/** @throws StreamError DIRECTORY_LOCKED, DATA_DIRECTORY_INVALID, CONFLICT, STORE_UNAVAILABLE, STORE_DAMAGED, DISK_* */
export async function adoptDirectory(
  ports: AdoptionPorts,
  target: AdoptionTarget,
): Promise<AdoptionSummary> {
  const { disk } = ports
  const metaPath = `${target.dataDirectory}/${META_NAME}`
  const metaBytes = disk.readFile(metaPath)
  if (metaBytes === undefined) {
    throw new StreamError('DATA_DIRECTORY_INVALID', `${target.dataDirectory}: holds no data`, {
      target: target.dataDirectory,
      hint: 'name the directory of the single daemon: --data DIR',
    })
  }
  const meta = parseMeta(metaPath, metaBytes)
  const lock = disk.lock(`${target.dataDirectory}/.lock`)
  const opened: MetadataStore[] = []
  try {
    const { mark, session } = findState(disk, target)
    const home = await ports.openHome()
    opened.push(home)
    const cluster = await ports.openCluster()
    opened.push(cluster)
    const move = new Move(ports, target, meta, { store: cluster, time: ports.time })
    return await move.run(home, mark, session)
  } finally {
    for (const store of opened) await store.close().catch(() => undefined)
    lock.release()
  }
}

/** @throws StreamError CONFLICT, DATA_DIRECTORY_INVALID */
function findState(
  disk: Disk,
  { dataDirectory, cluster }: AdoptionTarget,
): { mark: MovedMark | undefined; session: SessionRecord } {
  const refuse = (what: string, hint: string): never => {
    throw new StreamError('CONFLICT', `${dataDirectory}: ${what}`, { target: dataDirectory, hint })
  }
  const mark = readMovedMark(disk, dataDirectory)
  if (mark?.state === 'moved') {
    refuse(
      `has been moved already, to cluster ${mark.cluster}`,
      `start it there: stream daemon run --etcd URL --cluster ${mark.cluster} --node-id N --listen ADDRESS`,
    )
  }
  if (mark !== undefined && mark.cluster !== cluster) {
    refuse(
      `its move to cluster ${mark.cluster} was broken off, which may have been after its end`,
      `end that one: --cluster ${mark.cluster}`,
    )
  }
  if (disk.stat(`${dataDirectory}/metadata`) === undefined) {
    refuse('has no metadata of a single daemon', 'what a cluster has started needs no adoption')
  }
  const found = new SessionFile(disk, dataDirectory).read()
  const cleanBytes = disk.readFile(`${dataDirectory}/${CLEAN_NAME}`)
  const clean = cleanBytes === undefined ? undefined : parseCleanShutdown(cleanBytes)
  const session: SessionRecord | undefined = found.kind === 'found' ? found.record : undefined
  const isWhole = session !== undefined && clean?.dataEpoch === session.dataEpoch
  if (session === undefined || (mark === undefined && !isWhole)) {
    return refuse(
      'its last daemon did not end cleanly',
      `start it once and stop it: stream daemon start --data ${dataDirectory} && stream daemon stop`,
    )
  }
  return { mark, session }
}

class Move {
  readonly #ports: AdoptionPorts
  readonly #target: AdoptionTarget
  readonly #meta: DirectoryMeta
  readonly #cluster: Store
  readonly #keys: MetadataKeys
  readonly #nameKey: string

  constructor(ports: AdoptionPorts, target: AdoptionTarget, meta: DirectoryMeta, cluster: Store) {
    this.#ports = ports
    this.#target = target
    this.#meta = meta
    this.#cluster = cluster
    this.#keys = new MetadataKeys(meta.clusterId)
    this.#nameKey = clusterNameKey(target.cluster)
  }

  async run(
    home: MetadataStore,
    found: MovedMark | undefined,
    session: SessionRecord,
  ): Promise<AdoptionSummary> {
    const { disk, random } = this.#ports
    const { dataDirectory, cluster, isDryRun } = this.#target
    const { clusterId, nodeId } = this.#meta
    const entries = (await home.list(this.#keys.prefix)).entries
    const kinds = entries.map(({ key }) => this.#keys.parse(key)?.kind)
    const summary: AdoptionSummary = {
      clusterId,
      nodeId,
      topics: kinds.filter((kind) => kind === 'topic').length,
      partitions: kinds.filter((kind) => kind === 'partition').length,
    }
    if (!entries.some(({ key }) => key === this.#keys.data(nodeId))) {
      throw new StreamError('DATA_DIRECTORY_INVALID', `${dataDirectory}: its metadata is empty`, {
        target: dataDirectory,
      })
    }
    const token = found?.token ?? newUuid(random)
    const isCopied = await this.#isCopied(found)
    if (isDryRun) return summary
    const mark: MovedMark = { cluster, state: 'moving', token }
    if (found === undefined) await writeMovedMark(disk, dataDirectory, mark)
    if (!isCopied) await this.#copy(entries, token)
    await this.#settle(session, mark)
    return summary
  }

  /**
   * Whether all of it stands in etcd already, from a run that was broken off behind that.
   * @throws StreamError CONFLICT where something else has the name, or the cluster's keys
   */
  async #isCopied(found: MovedMark | undefined): Promise<boolean> {
    const { store } = this.#cluster
    const { cluster } = this.#target
    const { nodeId, clusterId } = this.#meta
    const named = await store.get(this.#nameKey)
    const data = await store.get(this.#keys.data(nodeId))
    const isOurs = found !== undefined && data !== undefined && this.#tokenOf(data) === found.token
    if (named !== undefined) {
      if (isOurs && textOf(named.value) === clusterId) return true
      throw new StreamError('CONFLICT', `etcd has a cluster ${cluster} already`, {
        target: cluster,
        hint: 'give the new one another name: --cluster NAME',
      })
    }
    if (isOurs) return false
    const { entries } = await store.list(this.#keys.prefix)
    if (entries.length === 0) return false
    throw new StreamError('CONFLICT', `etcd holds metadata of the cluster ${clusterId} already`, {
      target: clusterId,
      hint: 'a copy of this directory has been adopted, or that was broken off; another etcd has room for it',
    })
  }

  async #copy(entries: readonly StoreEntry[], token: string): Promise<void> {
    const dataEpoch = await this.#begin(token)
    const dataKey = this.#keys.data(this.#meta.nodeId)
    const guard: GuardedWrite['compare'] = [
      { kind: 'createRevision', key: this.#nameKey, equals: 0 },
      { kind: 'modRevision', key: dataKey, equals: dataEpoch },
    ]
    const left = await this.#cluster.store.list(this.#keys.prefix)
    const deletions = left.entries
      .filter(({ key }) => key !== dataKey)
      .map(({ key }): StoreOperation => ({ kind: 'delete', key }))
    const puts = entries.flatMap((entry) => this.#moved(entry, entries, dataEpoch))
    for (const writes of [...chunks(deletions), ...chunks(puts)]) {
      const { succeeded } = await commit(this.#cluster, { compare: guard, writes })
      if (!succeeded) throw this.#overtaken()
    }
    const { clusterId } = this.#meta
    const meta = encodeMeta({ clusterId, formatVersion: 1, features: {} })
    const last = await commit(this.#cluster, {
      compare: guard,
      writes: [
        { kind: 'put', key: this.#keys.meta(), value: meta },
        { kind: 'put', key: this.#nameKey, value: Buffer.from(clusterId, 'utf8') },
      ],
      otherwise: [
        { kind: 'get', key: this.#nameKey },
        { kind: 'get', key: dataKey },
      ],
    })
    // Its own write, sent twice because the first answer was lost.
    const [named, data] = last.gets
    const isOwn = named !== undefined && textOf(named.value) === clusterId
    if (!last.succeeded && !(isOwn && data?.modRevision === dataEpoch)) throw this.#overtaken()
  }

  /** Writes data/<b> anew. @returns its revision, the data epoch of the broker from now on */
  async #begin(token: string): Promise<number> {
    const { nodeId } = this.#meta
    const key = this.#keys.data(nodeId)
    const before = (await this.#cluster.store.get(key))?.modRevision ?? 0
    const result = await commit(this.#cluster, {
      compare: [
        { kind: 'createRevision', key: this.#nameKey, equals: 0 },
        { kind: 'createRevision', key: this.#keys.meta(), equals: 0 },
        { kind: 'modRevision', key, equals: before },
      ],
      writes: [{ kind: 'put', key, value: encodeData({ incarnation: token, reason: REASON }) }],
      otherwise: [{ kind: 'get', key }],
    })
    if (result.succeeded) return result.revision
    const [data] = result.gets
    const isOwn = data !== undefined && data.modRevision > before && this.#tokenOf(data) === token
    if (!isOwn) throw this.#overtaken()
    return data.modRevision
  }

  /** One entry as it stands in the cluster; none for what belongs to the session of the single daemon. */
  #moved(
    { key, value }: StoreEntry,
    entries: readonly StoreEntry[],
    dataEpoch: number,
  ): readonly StoreOperation[] {
    const parsed = this.#keys.parse(key)
    switch (parsed?.kind) {
      case 'meta':
      case 'controller':
      case 'live':
      case 'registration':
      case 'data':
        return []
      case 'partition': {
        const { nodeId } = this.#meta
        const before = entries.find((entry) => entry.key === this.#keys.data(nodeId))?.modRevision
        const member = (m: Member): Member => ({
          broker: m.broker,
          // A revision of the other home says nothing here; 0 is nobody's.
          dataEpoch: m.broker === nodeId && m.dataEpoch === before ? dataEpoch : 0,
        })
        const part = decodePartition(key, value)
        const moved = encodePartition({
          ...part,
          inSyncReplicas: part.inSyncReplicas.map(member),
          eligibleReplicas: part.eligibleReplicas.map(member),
          known: part.known.map(member),
          lastLeader: part.lastLeader === null ? null : member(part.lastLeader),
          writer: { epoch: 0, counter: 0 },
        })
        return [{ kind: 'put', key, value: moved }]
      }
      default:
        return [{ kind: 'put', key, value }]
    }
  }

  /** Step 3. */
  async #settle(session: SessionRecord, mark: MovedMark): Promise<void> {
    const { disk } = this.#ports
    const { dataDirectory } = this.#target
    const data = await this.#cluster.store.get(this.#keys.data(this.#meta.nodeId))
    const named = await this.#cluster.store.get(this.#nameKey)
    if (data === undefined || named === undefined || this.#tokenOf(data) !== mark.token) {
      throw this.#overtaken()
    }
    const dataEpoch = data.modRevision
    const file = new SessionFile(disk, dataDirectory)
    file.read()
    await file.write({
      incarnations: session.incarnations,
      dataEpoch,
      revision: named.modRevision,
    })
    const cleanBytes = disk.readFile(`${dataDirectory}/${CLEAN_NAME}`)
    const bootId = cleanBytes === undefined ? undefined : parseCleanShutdown(cleanBytes)?.bootId
    const clean = encodeCleanShutdown({ dataEpoch, bootId })
    await writeDurably(disk, dataDirectory, CLEAN_NAME, clean)
    await writeMovedMark(disk, dataDirectory, { ...mark, state: 'moved' })
  }

  #tokenOf(data: StoreEntry): string {
    return decodeData(data.key, data.value).incarnation
  }

  #overtaken(): StreamError {
    return new StreamError(
      'CONFLICT',
      `somebody else is writing the cluster ${this.#target.cluster} into etcd`,
      { target: this.#target.cluster, hint: 'see who, and run it again' },
    )
  }
}

function chunks(operations: readonly StoreOperation[]): readonly StoreOperation[][] {
  const all: StoreOperation[][] = []
  let bytes = 0
  for (const operation of operations) {
    const size = operation.key.length + (operation.kind === 'put' ? operation.value.length : 0)
    const last = all.at(-1)
    const isFull = last === undefined || last.length >= CHUNK_OPERATIONS_MAX
    if (isFull || bytes + size > CHUNK_BYTES_MAX) {
      all.push([operation])
      bytes = size
    } else {
      last.push(operation)
      bytes += size
    }
  }
  return all
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('utf8')
}
