/**
 * The library of `stream`: producing, consuming and administering topics from a script. This file is what the package's
 * types are (dist/index.d.ts), so it imports nothing; src/library/index.ts must fit it.
 *
 *     import { connect } from 'stream-hub'
 *     await using stream = await connect()
 *     await stream.producer().send('clicks', 'hello')
 *
 * Nothing here touches the process: no signal handlers, no exit, no output. Any number of connections, to any number of
 * brokers, may be open in one process.
 */

/** Bytes, or text as UTF-8. */
export type Bytes = string | Uint8Array

export interface ConnectOptions {
  /**
   * `ipc://PATH`, `tcp://HOST:PORT[,HOST:PORT]` or `kafka://HOST[:9092][,HOST]`. Default: the variable STREAM_BROKER, else
   * the user's own daemon, else the host's.
   */
  readonly broker?: string
  /** Starts the user's daemon if no broker was named and none answers. Default false. */
  readonly autostart?: boolean
  /** Shown in the broker's logs. Default `stream-library`. */
  readonly clientId?: string
  /** How long the first contact may take. Default 10 000; a socket that is not there is known at once. */
  readonly connectTimeoutMs?: number
  /** Of a single request. Default 30 000. */
  readonly requestTimeoutMs?: number
  /** TLS to `kafka://`; the broker's certificate and name are checked. Default: clear text. */
  readonly tls?: TlsOptions | boolean
  /** How to log in at `kafka://`. Nothing weaker is tried where it fails: NOT_ALLOWED. */
  readonly login?: LoginOptions
  /** Keys for `tcp://`, where the daemons have some. Nothing weaker is tried where they do not fit: NOT_ALLOWED. */
  readonly curve?: CurveOptions
  /**
   * The rack or zone this script runs in: consumers read from a replica in sync there, where there is one. Default: from
   * leaders.
   */
  readonly rack?: string
  /** Contact lost or regained; a position that was gone when it was to be read. Default: nothing is said. */
  readonly onWarning?: (warning: Warning) => void
}

/** PEM, as text or bytes. */
export interface TlsOptions {
  /** The authorities that are trusted, in place of the well-known ones. */
  readonly ca?: Bytes
  /** What is shown to a broker that asks for a certificate, with its chain, and its key. */
  readonly certificate?: Bytes
  readonly key?: Bytes
  readonly keyPassword?: string
  /** In the broker's certificate, where it is not that of its address. */
  readonly serverName?: string
}

/** A password or token as a function is asked for anew at each login; where that fails, the login does: SECRET_UNAVAILABLE. */
export type LoginOptions =
  | {
      /** PLAIN shows the password to the broker: use it with TLS. */
      readonly mechanism: 'PLAIN' | 'SCRAM-SHA-256' | 'SCRAM-SHA-512'
      readonly username: string
      readonly password: string | (() => string | Promise<string>)
    }
  | {
      readonly mechanism: 'OAUTHBEARER'
      readonly token: string | (() => string | Promise<string>)
    }

export type CurveOptions =
  /** As `stream cluster keys add NAME` makes it; only its owner may have access to it. */
  | { readonly keyFile: string }
  /** Each of 40 characters (Z85). */
  | { readonly serverKey: string; readonly publicKey: string; readonly secretKey: string }

export type Warning =
  | {
      readonly kind: 'waiting' | 'lost' | 'regained' | 'notice'
      readonly broker: string
      readonly message: string
    }
  /** A partition has taken no records for seconds (a full disk, too few replicas), or does again. They are sent again meanwhile. */
  | {
      readonly kind: 'refused' | 'taken'
      readonly topic: string
      readonly partition: number
      readonly message: string
    }
  /** The coordinator of a group or a transaction has refused for seconds (being moved, too few replicas), or answers again. */
  | { readonly kind: 'unanswered' | 'answered'; readonly target: string; readonly message: string }
  /** Offsets from ≤ offset < to were gone (retention, trim); reading went on at `to`. */
  | {
      readonly kind: 'gap'
      readonly topic: string
      readonly partition: number
      readonly from: number
      readonly to: number
    }

/**
 * @throws StreamError UNREACHABLE when no broker answers, ADDRESS_INVALID, NOT_ALLOWED, PERMISSION_DENIED; CONFIG_INVALID for
 *   `tls`, `login` or `curve` that cannot be used; FILE_NOT_FOUND for a key file; SECRET_UNAVAILABLE for a password or token
 */
export declare function connect(options?: ConnectOptions): Promise<Connection>

export interface Connection {
  /** The address in use. */
  readonly broker: string
  readonly admin: Admin
  /** A producer of its own; several may be open. @throws StreamError CONFIG_INVALID for options that cannot be used */
  producer(options?: ProducerOptions): Producer
  /**
   * A reader of its own, without a group: it reads all partitions, or those it is told. One that reads all, without `until`,
   * finds those that are added meanwhile within seconds, and reads them from their start.
   * @throws StreamError CONFIG_INVALID for options that cannot be used; TOPIC_UNKNOWN where it is iterated
   */
  consumer(options: ConsumerOptions): Consumer
  /** Ends everything that was opened with it. Producers are flushed first. Idempotent. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

// --- producer

export interface ProducerOptions {
  /** Default `all`: idempotent, and durable on every replica that must have it. */
  readonly acks?: 'all' | 1 | 0
  /** Default `none` on `ipc://`, else `lz4`. */
  readonly compression?: 'none' | 'gzip' | 'snappy' | 'lz4' | 'zstd'
  /** The longest a record waits for others. Default 5; sends of one turn of the event loop leave together anyway. */
  readonly lingerMs?: number
  /** From send to acknowledgement; then NOT_DELIVERED. `flush` and `close` may take as long. Default 120 000. */
  readonly deliveryTimeoutMs?: number
  /** Makes a topic that does not exist, with the broker's defaults. Default false: TOPIC_UNKNOWN. */
  readonly create?: boolean
}

export interface RecordInput {
  /** null: a tombstone. */
  readonly value: Bytes | null
  readonly key?: Bytes | null
  readonly headers?:
    | Readonly<Record<string, Bytes | null>>
    | readonly (readonly [string, Bytes | null])[]
  /** Default: by the key's hash as every Kafka client does it, else any. */
  readonly partition?: number
  /** Whole milliseconds since 1970. Default: now. */
  readonly timestampMs?: number
}

export interface Receipt {
  readonly topic: string
  readonly partition: number
  /** −1 where the broker does not say (acks 0). */
  readonly offset: number
}

export interface Producer {
  /**
   * Resolves when the record is durable as `acks` says. Records for one partition keep the order of the calls, awaited or
   * not.
   * @throws StreamError TOPIC_UNKNOWN for a topic that is not there at its first record, and for a partition that is not there;
   *   RECORD_INVALID, RECORD_TOO_LARGE, NOT_ALLOWED …; NOT_DELIVERED after `deliveryTimeoutMs`, also where the topic was deleted
   *   since its first record: it may come back, so flush and close wait for as long. After a failure other than of the record
   *   itself its partition takes no more: make a new producer.
   */
  send(topic: string, record: Bytes | RecordInput): Promise<Receipt>
  /**
   * Sends all, without waiting for each; takes no more from the source than there is room for.
   * @returns how many, once all are durable. @throws as send, at the first failure
   */
  sendAll(
    topic: string,
    records: Iterable<Bytes | RecordInput> | AsyncIterable<Bytes | RecordInput>,
  ): Promise<number>
  /** Resolves when everything sent so far has an outcome. */
  flush(): Promise<void>
  /** Flushes. Idempotent. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

// --- consumer

/** `start`, `end`, an offset (negative: so many records before the end), or the first record stamped at or after a time. */
export type Place = 'start' | 'end' | number | Date

export interface Position {
  readonly topic: string
  readonly partition: number
  /** The next offset to read. */
  readonly offset: number
}

export interface ConsumerOptions {
  readonly topics: string | readonly string[]
  /** Default: all. */
  readonly partitions?: readonly number[]
  /** Default: `end`, or `start` where `until` is given. Positions as `positions()` gave them: go on there. */
  readonly from?: Place | readonly Position[]
  /** Where to stop, exclusive; `end`: the end as it is at the beginning. Default: goes on. */
  readonly until?: Place
  /** Default read_committed. */
  readonly isolation?: 'read_committed' | 'read_uncommitted'
  /** Default: that of the connection. */
  readonly rack?: string
}

export interface Message {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  /** Milliseconds since 1970; null: none. */
  readonly timestampMs: number | null
  readonly key: Uint8Array | null
  /** null: a tombstone. */
  readonly value: Uint8Array | null
  /** In order; names may repeat. */
  readonly headers: readonly (readonly [string, Uint8Array | null])[]
  /** The value as UTF-8; null for null. */
  text(): string | null
  /** The value as JSON. @throws SyntaxError */
  json(): unknown
}

/** Iterate it once. Leaving the loop closes it. */
export interface Consumer extends AsyncIterable<Message> {
  [Symbol.asyncIterator](): AsyncIterator<Message, undefined>
  /** Where to go on, behind the last message given: keep it with your results, and give it as `from`. */
  positions(): readonly Position[]
  /** Ends a loop that waits. Idempotent. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

// --- admin

export interface TopicSummary {
  readonly name: string
  readonly topicId: string
  readonly isInternal: boolean
  readonly partitions: number
  readonly replicas: number
}

export interface PartitionDescription {
  readonly partition: number
  /** −1: nobody leads it. */
  readonly leader: number
  readonly replicas: readonly number[]
  readonly inSyncReplicas: readonly number[]
  /** First offset that is there. */
  readonly start: number
  /** Behind the last committed record. */
  readonly end: number
}

export interface TopicDescription extends Omit<TopicSummary, 'partitions'> {
  readonly partitions: readonly PartitionDescription[]
}

export interface ConfigValue {
  /** null where it is unset or secret. */
  readonly value: string | null
  /** `topic` where it was set on the topic, else where it comes from. */
  readonly origin: string
}

/** Every method: StreamError TOPIC_UNKNOWN, NOT_ALLOWED, TIMED_OUT, UNREACHABLE, CONFIG_INVALID where it applies. */
export interface Admin {
  listTopics(): Promise<readonly TopicSummary[]>
  describeTopic(name: string): Promise<TopicDescription>
  /** Resolves when every partition is led. @throws StreamError TOPIC_EXISTS, TOPIC_NAME_INVALID, CONFIG_INVALID */
  createTopic(
    name: string,
    options?: {
      readonly partitions?: number
      readonly replicas?: number
      readonly config?: Readonly<Record<string, string | number | boolean>>
      /** Fine when it exists. */
      readonly ifNotExists?: boolean
    },
  ): Promise<void>
  deleteTopic(name: string, options?: { readonly ifExists?: boolean }): Promise<void>
  /** @param count  the new total */
  addPartitions(name: string, count: number): Promise<void>
  topicConfig(name: string): Promise<Readonly<Record<string, ConfigValue>>>
  /** null: back to the default. */
  setTopicConfig(
    name: string,
    changes: Readonly<Record<string, string | number | boolean | null>>,
  ): Promise<void>
  /** One position for each partition. */
  offsets(topic: string, place: 'start' | 'end' | Date): Promise<readonly Position[]>
  /** Deletes the records before an offset; −1: all. @returns the new first offset */
  trim(topic: string, partition: number, beforeOffset: number): Promise<number>
  cluster(): Promise<{
    readonly clusterId: string | undefined
    readonly controller: number
    readonly brokers: readonly { readonly id: number; readonly address: string }[]
  }>
}

// --- errors

/** Everything that can go wrong outside the caller's own code. Switch on `code`, never on the message. */
export declare class StreamError extends Error {
  readonly name: 'StreamError'
  /** Of a closed table: `TOPIC_UNKNOWN`, `UNREACHABLE`, `NOT_DELIVERED` … */
  readonly code: string
  /** The exit code of a command that ends with it. */
  readonly exit: number
  /** Kafka's number, where a broker answered with one. */
  readonly kafkaError: number | undefined
  /** Whether trying again may help. */
  readonly retriable: boolean
  /** What can be done next. */
  readonly hint: string | undefined
  /** What it is about: a topic, an address. */
  readonly target: string | undefined
  private constructor()
}
