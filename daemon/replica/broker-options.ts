/** What a broker is given: its ports and options. */

import type { StreamError } from '../../src/base/errors.ts'
import type { Disk } from '../../src/ports/disk.ts'
import type { Log } from '../../src/ports/log.ts'
import type { MetadataStore } from '../../src/ports/metadata-store.ts'
import type { Net } from '../../src/ports/net.ts'
import type { Random } from '../../src/ports/random.ts'
import type { Time } from '../../src/ports/time.ts'

/** Makes room on a full disk until what it returns is called. */
export type LendRoom = () => () => void

export interface BrokerPorts {
  readonly time: Time
  readonly random: Random
  readonly disk: Disk
  /** A function is called once the data directory is locked: a home inside of it must not be opened before. */
  readonly store: MetadataStore | ((lendRoom: LendRoom) => Promise<MetadataStore>)
  readonly log: Log
  /** For links to the other brokers of a cluster. */
  readonly net?: Net
}

export interface BrokerOptions {
  readonly dataDirectory: string
  readonly nodeId: number
  /** Broker configs by name, as set by flags, environment and files. */
  readonly config: ReadonlyMap<string, string>
  readonly bootId: string | undefined
  /** The data is an old copy: nothing in it counts as acknowledged. */
  readonly restored: boolean
  /** Several brokers share the store, whose leases end by time; undefined: the single daemon with a home of its own. */
  readonly cluster?: ClusterOptions | undefined
  /** Largest transaction of the store; the embedded home has no limit, a cluster's has 128 operations. */
  readonly operationsMax?: number
  /** A part of the reserve of the disk lies in a file of its own. */
  readonly hasBallast?: boolean
  /** Recent batches kept in memory over all logs. */
  readonly cacheBytesMax?: number
  /** Segments and indexes open at once, over all logs. */
  readonly openFilesMax?: number
}

export interface ClusterOptions {
  /** Where others reach this broker: `tcp://host:port` for the ZeroMQ door, `kafka://host:port` for Kafka's. */
  readonly endpoints: readonly string[]
  /** Which cluster of the store; undefined: the one that the store names, or a new one in an empty store. */
  readonly clusterId?: string
  /** Before it registers it asks the others whether they let it in. */
  readonly asksForWelcome?: boolean
  /** Another daemon has taken this node's place: this one serves nothing any more and should end. */
  readonly onFenced?: (error: StreamError) => void
}
