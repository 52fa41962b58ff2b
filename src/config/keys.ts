/**
 * The one table of config keys: client, broker (Kafka's broker configs, which our daemon has) and topic. Where Kafka
 * has a key its name, unit and meaning are used; names of ours begin with `stream.` or stand in the client's part.
 * Help, man pages, validation and `DescribeConfigs` follow from these rows (kafka-protocol.md, section 8).
 *
 * Adding a key is adding one row. A row's name never changes its meaning.
 */

import { type ConfigKey, type ConfigScope, configVariable, UNLIMITED } from './config-key.ts'
import { nearestName } from './nearest-name.ts'

const codecs = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const

// biome-ignore format: one row, one line
export const topicKeys = [
  { name: 'cleanup.policy', type: 'list', default: 'delete', values: ['delete', 'compact'], synonym: 'log.cleanup.policy', help: 'delete old segments, keep the last value of each key, or both' },
  { name: 'retention.ms', type: 'long', unit: 'ms', default: '604800000', min: -1, synonym: 'log.retention.ms', help: 'age at which closed segments are deleted; -1: never' },
  { name: 'retention.bytes', type: 'long', unit: 'bytes', default: '-1', min: -1, synonym: 'log.retention.bytes', help: 'size of a partition above which its oldest segments are deleted; -1: no limit' },
  { name: 'segment.bytes', type: 'int', unit: 'bytes', default: '1073741824', min: 1048576, synonym: 'log.segment.bytes', help: 'size at which a new segment file is begun' },
  { name: 'segment.ms', type: 'long', unit: 'ms', default: '604800000', min: 1, synonym: 'log.roll.ms', help: 'age at which a new segment file is begun' },
  { name: 'segment.jitter.ms', type: 'long', unit: 'ms', default: '0', min: 0, synonym: 'log.roll.jitter.ms', help: 'random part taken off segment.ms, so that not all segments roll at once' },
  { name: 'segment.index.bytes', type: 'int', unit: 'bytes', default: '10485760', min: 4, synonym: 'log.index.size.max.bytes', help: 'size at which an index is full and the segment rolls' },
  { name: 'index.interval.bytes', type: 'int', unit: 'bytes', default: '4096', min: 0, synonym: 'log.index.interval.bytes', help: 'bytes of log between two index entries' },
  { name: 'flush.messages', type: 'long', unit: 'records', default: '1', min: 1, synonym: 'log.flush.interval.messages', help: '1: acknowledged only when on the disk; above: synced after so many records' },
  { name: 'flush.ms', type: 'long', unit: 'ms', default: '100', min: 0, synonym: 'log.flush.interval.ms', help: 'longest wait for a sync where flush.messages is above 1' },
  { name: 'max.message.bytes', type: 'int', unit: 'bytes', default: '1048588', min: 0, synonym: 'message.max.bytes', help: 'largest batch, compressed' },
  { name: 'message.timestamp.type', type: 'enum', default: 'CreateTime', values: ['CreateTime', 'LogAppendTime'], synonym: 'log.message.timestamp.type', help: 'timestamps of the producer, or of the append' },
  { name: 'message.timestamp.before.max.ms', type: 'long', unit: 'ms', default: UNLIMITED, min: 0, synonym: 'log.message.timestamp.before.max.ms', help: 'how far before now a timestamp may lie' },
  { name: 'message.timestamp.after.max.ms', type: 'long', unit: 'ms', default: '3600000', min: 0, synonym: 'log.message.timestamp.after.max.ms', help: 'how far after now a timestamp may lie' },
  { name: 'compression.type', type: 'enum', default: 'producer', values: ['producer', 'uncompressed', 'gzip', 'snappy', 'lz4', 'zstd'], synonym: 'compression.type', help: 'codec of stored batches; producer: as they were sent' },
  { name: 'compression.gzip.level', type: 'int', default: '-1', min: -1, max: 9, synonym: 'compression.gzip.level', help: 'gzip level where the daemon recompresses' },
  { name: 'compression.lz4.level', type: 'int', default: '9', min: 1, max: 17, synonym: 'compression.lz4.level', help: 'lz4 level where the daemon recompresses' },
  { name: 'compression.zstd.level', type: 'int', default: '3', min: -131072, max: 22, synonym: 'compression.zstd.level', help: 'zstd level where the daemon recompresses' },
  { name: 'min.insync.replicas', type: 'int', default: '1', min: 1, synonym: 'min.insync.replicas', help: 'in-sync replicas needed for acks=all; default 2 where there are several replicas' },
  { name: 'unclean.leader.election.enable', type: 'boolean', default: 'false', synonym: 'unclean.leader.election.enable', help: 'let a replica lead that may lack acknowledged records' },
  { name: 'min.cleanable.dirty.ratio', type: 'double', default: '0.5', min: 0, max: 1, synonym: 'log.cleaner.min.cleanable.ratio', help: 'share of uncompacted bytes at which compaction begins' },
  { name: 'min.compaction.lag.ms', type: 'long', unit: 'ms', default: '0', min: 0, synonym: 'log.cleaner.min.compaction.lag.ms', help: 'age below which a record is not compacted away' },
  { name: 'max.compaction.lag.ms', type: 'long', unit: 'ms', default: UNLIMITED, min: 1, synonym: 'log.cleaner.max.compaction.lag.ms', help: 'age at which a record is compacted at the latest' },
  { name: 'delete.retention.ms', type: 'long', unit: 'ms', default: '86400000', min: 0, synonym: 'log.cleaner.delete.retention.ms', help: 'how long a compacted log keeps tombstones' },
  { name: 'file.delete.delay.ms', type: 'long', unit: 'ms', default: '60000', min: 0, synonym: 'log.segment.delete.delay.ms', help: 'wait before a deleted segment leaves the disk, unless that is short of space' },
  { name: 'preallocate', type: 'boolean', default: 'false', synonym: 'log.preallocate', help: 'accepted, without effect' },
  { name: 'leader.replication.throttled.replicas', type: 'list', default: '', help: 'partition:broker of the replicas whose sending the rate of the same name limits; *: all' },
  { name: 'follower.replication.throttled.replicas', type: 'list', default: '', help: 'partition:broker of the replicas whose copying the rate of the same name limits; *: all' },
  { name: 'remote.storage.enable', type: 'boolean', default: 'false', help: 'tiered storage; not available' },
  { name: 'local.retention.ms', type: 'long', unit: 'ms', default: '-2', min: -2, synonym: 'log.local.retention.ms', help: 'tiered storage; without effect' },
  { name: 'local.retention.bytes', type: 'long', unit: 'bytes', default: '-2', min: -2, synonym: 'log.local.retention.bytes', help: 'tiered storage; without effect' },
  { name: 'internal.segment.bytes', type: 'int', unit: 'bytes', default: null, min: 14, hidden: true, help: 'segment.bytes without its lower limit, for tests' },
] as const satisfies readonly ConfigKey[]

// biome-ignore format: one row, one line
const plainBrokerKeys = [
  { name: 'auto.create.topics.enable', type: 'boolean', default: 'false', help: 'create a topic when a client asks about it' },
  { name: 'broker.rack', type: 'string', default: null, help: 'rack or zone of this broker' },
  { name: 'broker.session.timeout.ms', type: 'int', unit: 'ms', default: '10000', min: 3000, help: 'in a cluster: silence towards etcd after which this daemon counts as dead, and its partitions get other leaders' },
  { name: 'connection.failed.authentication.delay.ms', type: 'int', unit: 'ms', default: '100', min: 0, help: 'wait before a failed login is answered' },
  { name: 'connections.max.idle.ms', type: 'long', unit: 'ms', default: '600000', help: 'silence after which a connection is closed' },
  { name: 'connections.max.reauth.ms', type: 'long', unit: 'ms', default: '0', help: 'life of a login; 0: no limit' },
  { name: 'default.replication.factor', type: 'int', default: null, min: 1, help: 'replicas of a topic that names none; default: the number of brokers, at most 3' },
  { name: 'delete.topic.enable', type: 'boolean', default: 'true', help: 'topics can be deleted' },
  { name: 'fetch.max.bytes', type: 'int', unit: 'bytes', default: '57671680', min: 1024, help: 'largest answer to a fetch' },
  { name: 'follower.replication.throttled.rate', type: 'long', unit: 'bytes', default: UNLIMITED, min: 1, help: 'bytes a second that this broker takes for limited replicas which are not in sync' },
  { name: 'group.consumer.assignors', type: 'list', default: 'uniform,range', values: ['uniform', 'range'], help: 'assignment of partitions in groups, first is the default' },
  { name: 'group.consumer.heartbeat.interval.ms', type: 'int', unit: 'ms', default: '5000', min: 1, help: 'heartbeats of group members' },
  { name: 'group.consumer.migration.policy', type: 'enum', default: 'bidirectional', values: ['bidirectional', 'upgrade', 'downgrade', 'disabled'], help: 'whether a group with members changes between the classic and the consumer protocol' },
  { name: 'group.consumer.session.timeout.ms', type: 'int', unit: 'ms', default: '45000', min: 1, help: 'silence after which a group member is dead' },
  { name: 'group.initial.rebalance.delay.ms', type: 'int', unit: 'ms', default: '250', min: 0, help: 'wait for more members before the first assignment' },
  { name: 'group.max.session.timeout.ms', type: 'int', unit: 'ms', default: '1800000', min: 1, help: 'longest session a classic group member may ask for' },
  { name: 'group.max.size', type: 'int', default: '10000', min: 1, help: 'members of one group' },
  { name: 'group.min.session.timeout.ms', type: 'int', unit: 'ms', default: '6000', min: 1, help: 'shortest session a classic group member may ask for' },
  { name: 'leader.imbalance.check.interval.seconds', type: 'long', unit: 's', default: '300', min: 1, help: 'pause between checks for leaders that are not the preferred ones' },
  { name: 'leader.imbalance.per.broker.percentage', type: 'int', default: '10', min: 0, help: 'share of such leaders at which they are moved back' },
  { name: 'leader.replication.throttled.rate', type: 'long', unit: 'bytes', default: UNLIMITED, min: 1, help: 'bytes a second that this broker sends for limited replicas to followers which are not in sync' },
  { name: 'log.cleaner.dedupe.buffer.size', type: 'long', unit: 'bytes', default: '134217728', min: 1, help: 'memory for the keys of a compaction' },
  { name: 'log.cleaner.threads', type: 'int', default: '1', min: 0, help: 'compactions at once' },
  { name: 'log.dir.reserve.bytes', type: 'long', unit: 'bytes', default: '1073741824', min: 0, help: 'free space at which writes are refused (at most 5 % of the file system)' },
  { name: 'log.flush.offset.checkpoint.interval.ms', type: 'int', unit: 'ms', default: '60000', min: 0, help: 'pause between records of recovery points' },
  { name: 'log.flush.start.offset.checkpoint.interval.ms', type: 'int', unit: 'ms', default: '60000', min: 0, help: 'pause between records of log starts' },
  { name: 'log.retention.check.interval.ms', type: 'long', unit: 'ms', default: '300000', min: 1, help: 'pause between checks for segments to delete' },
  { name: 'log.retention.hours', type: 'int', default: '168', min: -1, help: 'retention.ms of all topics in hours; log.retention.minutes and .ms win' },
  { name: 'log.retention.minutes', type: 'int', unit: 'min', default: null, min: -1, help: 'retention.ms of all topics in minutes; log.retention.ms wins' },
  { name: 'log.roll.hours', type: 'int', default: '168', min: 1, help: 'segment.ms of all topics in hours; log.roll.ms wins' },
  { name: 'log.roll.jitter.hours', type: 'int', default: '0', min: 0, help: 'segment.jitter.ms of all topics in hours; log.roll.jitter.ms wins' },
  { name: 'max.connections', type: 'int', default: '10000', min: 0, help: 'connections at once' },
  { name: 'max.connections.per.ip', type: 'int', default: '10000', min: 0, help: 'connections of one address' },
  { name: 'max.incremental.fetch.session.cache.slots', type: 'int', default: '1000', min: 0, help: 'fetch sessions kept' },
  { name: 'max.request.partition.size.limit', type: 'int', default: '2000', min: 1, help: 'partitions in one DescribeTopicPartitions answer' },
  { name: 'num.partitions', type: 'int', default: '1', min: 1, help: 'partitions of a topic that names none' },
  { name: 'num.recovery.threads.per.data.dir', type: 'int', default: '2', min: 1, help: 'logs recovered at once' },
  { name: 'offset.metadata.max.bytes', type: 'int', unit: 'bytes', default: '4096', min: 0, help: 'text committed beside an offset' },
  { name: 'offsets.commit.timeout.ms', type: 'int', unit: 'ms', default: '5000', min: 1, help: 'longest wait for a commit' },
  { name: 'offsets.retention.check.interval.ms', type: 'long', unit: 'ms', default: '600000', min: 1, help: 'pause between checks for offsets to forget' },
  { name: 'offsets.retention.minutes', type: 'int', unit: 'min', default: '10080', min: 1, help: 'how long offsets of empty groups are kept' },
  { name: 'offsets.topic.num.partitions', type: 'int', default: '50', min: 1, help: 'partitions of the offsets topic' },
  { name: 'offsets.topic.replication.factor', type: 'int', default: null, min: 1, help: 'replicas of the offsets topic; default: the number of brokers, at most 3' },
  { name: 'offsets.topic.segment.bytes', type: 'int', unit: 'bytes', default: '104857600', min: 1, help: 'segment size of the offsets topic' },
  { name: 'producer.id.expiration.ms', type: 'int', unit: 'ms', default: '86400000', min: 1, help: 'how long the state of an idle producer is kept' },
  { name: 'queued.max.request.bytes', type: 'long', unit: 'bytes', default: '134217728', min: 1, help: 'bytes of requests in work before reading pauses' },
  { name: 'queued.max.requests', type: 'int', default: '500', min: 1, help: 'requests in work before reading pauses' },
  { name: 'quota.window.num', type: 'int', default: '11', min: 1, help: 'windows of the rate measurement' },
  { name: 'quota.window.size.seconds', type: 'int', unit: 's', default: '1', min: 1, help: 'length of such a window' },
  { name: 'replica.fetch.max.bytes', type: 'int', unit: 'bytes', default: '1048576', min: 0, help: 'bytes of a partition in a fetch of a follower' },
  { name: 'replica.fetch.response.max.bytes', type: 'int', unit: 'bytes', default: '10485760', min: 0, help: 'bytes of a whole fetch of a follower' },
  { name: 'replica.fetch.wait.max.ms', type: 'int', unit: 'ms', default: '500', min: 0, help: 'longest wait of such a fetch' },
  { name: 'replica.high.watermark.checkpoint.interval.ms', type: 'long', unit: 'ms', default: '5000', min: 1, help: 'pause between records of high watermarks' },
  { name: 'replica.lag.time.max.ms', type: 'long', unit: 'ms', default: '30000', min: 1, help: 'a follower further behind leaves the in-sync replicas' },
  { name: 'replica.selector.class', type: 'enum', default: 'rack', values: ['rack', 'leader', 'org.apache.kafka.common.replica.RackAwareReplicaSelector', 'org.apache.kafka.common.replica.LeaderSelector'], help: 'from whom a consumer that names its rack reads: a replica in sync there, or always the leader' },
  { name: 'sasl.enabled.mechanisms', type: 'list', default: null, values: ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'], help: 'ways to log in at kafka://; with any of them only users get in (stream users)' },
  { name: 'sasl.server.max.receive.size', type: 'int', unit: 'bytes', default: '65536', min: 1024, help: 'longest message of a client that has not logged in' },
  { name: 'socket.request.max.bytes', type: 'int', unit: 'bytes', default: '104857600', min: 1, help: 'longest request' },
  { name: 'stream.allow.plaintext', type: 'boolean', default: 'false', help: 'listen beyond this host in clear text, for everybody who can reach it, and take passwords in clear text' },
  { name: 'stream.boot.id', type: 'string', default: null, hidden: true, help: 'takes the place of the host\'s boot id, for tests of power cuts' },
  { name: 'stream.connection.queued.max.bytes', type: 'int', unit: 'bytes', default: '16777216', min: 1, help: 'answers a client has not taken yet, above which its requests wait' },
  { name: 'stream.connection.queued.max.requests', type: 'int', default: '1000', min: 1, help: 'requests of one connection in work or waiting, above which it is closed' },
  { name: 'stream.curve.key.file', type: 'string', default: null, help: 'key file of the cluster, as stream cluster keys makes it: tcp:// lets in only who has a key' },
  { name: 'stream.etcd.password.file', type: 'string', default: null, help: 'file with the password for etcd; or the variable STREAM_ETCD_PASSWORD' },
  { name: 'stream.etcd.request.timeout.ms', type: 'int', unit: 'ms', default: '5000', min: 100, help: 'after this a call of etcd is given up' },
  { name: 'stream.etcd.tls.ca.file', type: 'string', default: null, help: 'PEM file of whom etcd\'s certificate must come from' },
  { name: 'stream.etcd.tls.certificate.file', type: 'string', default: null, help: 'PEM file with the certificate shown to etcd' },
  { name: 'stream.etcd.tls.key.file', type: 'string', default: null, help: 'PEM file with its key' },
  { name: 'stream.etcd.tls.server.name', type: 'string', default: null, help: 'name in the certificate of etcd, where it is not that of its address' },
  { name: 'stream.etcd.user', type: 'string', default: null, help: 'user for etcd' },
  { name: 'stream.fetch.parked.max', type: 'int', default: '20000', min: 0, help: 'fetches waiting for records; further ones are answered at once' },
  { name: 'stream.kafka.phase', type: 'enum', default: 'A', values: ['A', 'B'], help: 'which APIs the Kafka door lists' },
  { name: 'stream.kafka.tls.certificate.file', type: 'string', default: null, help: 'PEM file of the certificate, with its chain, that kafka:// shows: with it that door speaks only TLS' },
  { name: 'stream.kafka.tls.client.ca.file', type: 'string', default: null, help: 'PEM file of an authority: kafka:// lets in only clients that show a certificate of it' },
  { name: 'stream.kafka.tls.key.file', type: 'string', default: null, help: 'PEM file of the key of the certificate of kafka://, mode 0600' },
  { name: 'stream.line.enable', type: 'boolean', default: 'true', help: 'the line protocol at line.sock, beside a native socket that is named daemon.sock' },
  { name: 'stream.login.timeout.ms', type: 'int', unit: 'ms', default: '10000', min: 1, help: 'how long a client of kafka:// may take to log in' },
  { name: 'stream.metadata.outage.policy', type: 'enum', default: 'continue', values: ['continue', 'fence'], help: 'what a leader does while the metadata store is away' },
  { name: 'stream.newcomers.max', type: 'int', default: '500', min: 1, help: 'connections to kafka:// that have not logged in, or whose TLS handshake is not done; beyond it the oldest of them ends' },
  { name: 'stream.queued.max.bytes', type: 'long', unit: 'bytes', default: '134217728', min: 1, help: 'answers that clients have not taken yet, over all connections, above which answers get small' },
  { name: 'stream.scrub.interval.ms', type: 'long', unit: 'ms', default: '604800000', min: -1, help: 'how often all logs are read in search of damage; -1: never' },
  { name: 'stream.scrub.max.bytes.per.second', type: 'long', unit: 'bytes', default: '10485760', min: 1024, help: 'how fast they are read at most' },
  { name: 'transaction.abort.timed.out.transaction.cleanup.interval.ms', type: 'int', unit: 'ms', default: '10000', min: 1, help: 'pause between checks for transactions to abort' },
  { name: 'transaction.max.timeout.ms', type: 'int', unit: 'ms', default: '900000', min: 1, help: 'longest transaction a client may ask for' },
  { name: 'transaction.state.log.min.isr', type: 'int', default: null, min: 1, help: 'min.insync.replicas of the transaction topic' },
  { name: 'transaction.state.log.num.partitions', type: 'int', default: '50', min: 1, help: 'partitions of the transaction topic' },
  { name: 'transaction.state.log.replication.factor', type: 'int', default: null, min: 1, help: 'replicas of the transaction topic; default: the number of brokers, at most 3' },
  { name: 'transactional.id.expiration.ms', type: 'int', unit: 'ms', default: '604800000', min: 1, help: 'how long an idle transactional id is kept' },
  { name: 'unclean.recovery.timeout.ms', type: 'long', unit: 'ms', default: '30000', min: 0, help: 'how long a partition waits for a better replica before an unclean election, where its topic allows one' },
] as const satisfies readonly ConfigKey[]

// biome-ignore format: one row, one line
export const clientKeys = [
  { name: 'acks', type: 'enum', default: 'all', values: ['all', '-1', '1', '0'], help: 'how many replicas must have a record before it counts as delivered' },
  { name: 'batch.size', type: 'int', unit: 'bytes', default: '1024000', min: 1024, max: 104857600, help: 'size at which a batch is sent' },
  { name: 'broker', type: 'string', default: null, help: 'address of the broker' },
  { name: 'buffer.memory', type: 'long', unit: 'bytes', default: '67108864', min: 65536, help: 'records taken and not yet delivered' },
  { name: 'client.id', type: 'string', default: 'stream', help: 'name of this client in the logs of the broker' },
  { name: 'client.rack', type: 'string', default: null, help: 'rack or zone of this client: it reads from a replica there, where there is one' },
  { name: 'compression.type', type: 'enum', default: null, values: codecs, help: 'codec of produced batches; default none over ipc, else lz4' },
  { name: 'connect.timeout.ms', type: 'int', unit: 'ms', default: '10000', min: 1, help: 'wait for the first contact' },
  { name: 'context', type: 'string', default: null, help: 'name of the context to use' },
  { name: 'delivery.timeout.ms', type: 'int', unit: 'ms', default: '120000', min: 1, help: 'after this a record counts as not delivered' },
  { name: 'fetch.max.bytes', type: 'int', unit: 'bytes', default: '4194304', min: 1024, help: 'largest answer to a fetch' },
  { name: 'fetch.max.wait.ms', type: 'int', unit: 'ms', default: '500', min: 0, help: 'longest wait of a fetch at the end' },
  { name: 'fetch.min.bytes', type: 'int', unit: 'bytes', default: '1', min: 0, help: 'what a fetch waits for' },
  { name: 'enable.ssl.certificate.verification', type: 'boolean', default: 'true', help: "whether the broker's certificate must come from an authority that is trusted; false takes whoever answers for the broker" },
  { name: 'heartbeat.interval.ms', type: 'int', unit: 'ms', default: '3000', min: 1, help: 'pause between the heartbeats of a group member' },
  { name: 'isolation.level', type: 'enum', default: 'read_committed', values: ['read_committed', 'read_uncommitted'], help: 'whether records of open and aborted transactions are read' },
  { name: 'linger.ms', type: 'int', unit: 'ms', default: '5', min: 0, help: 'longest wait for a batch to fill' },
  { name: 'max.partition.fetch.bytes', type: 'int', unit: 'bytes', default: '1048576', min: 1024, help: 'bytes of one partition in a fetch; default 4194304 in a mirror, for long roads' },
  { name: 'max.poll.interval.ms', type: 'int', unit: 'ms', default: '300000', min: 1, help: 'how long a rebalance waits for a group member' },
  { name: 'max.request.size', type: 'int', unit: 'bytes', default: '104857600', min: 1024, help: 'longest record or request that is tried' },
  { name: 'metadata.max.age.ms', type: 'int', unit: 'ms', default: '300000', min: 1, help: 'age at which metadata is asked for again' },
  { name: 'partitioner', type: 'enum', default: 'murmur2', values: ['murmur2', 'crc32'], help: 'hash of the key that chooses the partition' },
  { name: 'produce.create', type: 'enum', default: 'auto', values: ['auto', 'yes', 'no', 'true', 'false'], help: 'create an unknown topic; auto: if the broker was reached by ipc' },
  { name: 'reconnect.backoff.max.ms', type: 'int', unit: 'ms', default: '1000', min: 0, help: 'longest pause between connection attempts' },
  { name: 'reconnect.backoff.ms', type: 'int', unit: 'ms', default: '50', min: 0, help: 'first pause between connection attempts' },
  { name: 'request.timeout.ms', type: 'int', unit: 'ms', default: '30000', min: 1, help: 'wait for one answer' },
  { name: 'retry.backoff.max.ms', type: 'int', unit: 'ms', default: '1000', min: 0, help: 'longest pause between retries' },
  { name: 'retry.backoff.ms', type: 'int', unit: 'ms', default: '100', min: 0, help: 'first pause between retries' },
  { name: 'security.protocol', type: 'enum', default: null, values: ['PLAINTEXT', 'SSL', 'SASL_PLAINTEXT', 'SASL_SSL'], help: 'how kafka:// is protected; default as the keys sasl.… and ssl.… ask for it' },
  { name: 'sasl.mechanism', type: 'enum', default: null, values: ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512', 'OAUTHBEARER'], help: 'how a login proves itself; default SCRAM-SHA-512, or OAUTHBEARER where a token is named' },
  { name: 'sasl.username', type: 'string', default: null, help: 'name to log in with' },
  { name: 'session.timeout.ms', type: 'int', unit: 'ms', default: '45000', min: 1, help: 'silence after which a group member counts as dead' },
  { name: 'ssl.ca.location', type: 'string', default: null, help: 'PEM file of the authorities that are trusted; default: the well-known ones' },
  { name: 'ssl.certificate.location', type: 'string', default: null, help: 'PEM file of the certificate of this client, with its chain' },
  { name: 'ssl.endpoint.identification.algorithm', type: 'enum', default: 'https', values: ['https', 'none'], help: "whether the broker's certificate must name its address" },
  { name: 'ssl.key.location', type: 'string', default: null, help: 'file of the key of that certificate' },
  { name: 'ssl.server.name', type: 'string', default: null, help: "name in the broker's certificate, where it is not that of its address" },
  { name: 'state.topic', type: 'string', default: '__stream_state', help: 'internal topic in which commands keep positions, carry and undo records' },
  { name: 'curve.key.file', type: 'string', default: null, help: 'key file for tcp://, as stream cluster keys add makes it; in place of the three keys below' },
  { name: 'curve.server.key', type: 'string', default: null, help: 'CURVE public key of the broker behind tcp://' },
  { name: 'curve.public.key', type: 'string', default: null, help: 'CURVE public key of this client' },
  { name: 'sasl.password', type: 'secret', default: null, help: 'password; a file, a command or a variable of a context' },
  { name: 'sasl.oauthbearer.token', type: 'secret', default: null, help: 'token; a file, a command or a variable of a context' },
  { name: 'ssl.key.password', type: 'secret', default: null, help: 'password of the client key; a file, a command or a variable of a context' },
  { name: 'curve.secret.key', type: 'secret', default: null, help: 'CURVE secret key; a file, a command or a variable of a context' },
] as const satisfies readonly ConfigKey[]

export type TopicKeyName = (typeof topicKeys)[number]['name']
export type ClientKeyName = (typeof clientKeys)[number]['name']
type SynonymName = Extract<(typeof topicKeys)[number], { synonym: string }>['synonym']
export type BrokerKeyName = (typeof plainBrokerKeys)[number]['name'] | SynonymName

/** The broker's own keys, and one for each topic key that has a synonym: the default of all topics. */
export const brokerKeys: readonly (ConfigKey & { readonly name: BrokerKeyName })[] = [
  ...plainBrokerKeys,
  ...topicKeys.flatMap((key) => ('synonym' in key ? [brokerKeyOf(key)] : [])),
]

function brokerKeyOf(
  key: Extract<(typeof topicKeys)[number], { synonym: string }>,
): ConfigKey & { readonly name: SynonymName } {
  const { synonym, ...rest } = key
  // The hours keys speak for these two as long as nobody sets them.
  const isInHours = synonym === 'log.retention.ms' || synonym === 'log.roll.ms'
  return {
    ...rest,
    name: synonym,
    default: isInHours ? null : key.default,
    help: `${key.name} of topics that do not set it`,
  }
}

export function keysOf(scope: ConfigScope): readonly ConfigKey[] {
  switch (scope) {
    case 'topic':
      return topicKeys
    case 'broker':
      return brokerKeys
    case 'client':
      return clientKeys
  }
}

export function findKey(scope: ConfigScope, name: string): ConfigKey | undefined {
  return keysOf(scope).find((key) => key.name === name)
}

/** `no such key` with the nearest name, as one line to print. */
export function unknownKeyMessage(scope: ConfigScope, name: string): string {
  const nearest = nearestName(
    name,
    keysOf(scope)
      .filter((key) => key.hidden !== true)
      .map((key) => key.name),
  )
  const hint = nearest === undefined ? '' : `; did you mean ${nearest}?`
  return `${name}: no such ${scope} key${hint}`
}

/** Keys of one scope set by `STREAM_CONF_…` variables: name to text. Variables of other scopes' keys are left alone. */
export function configFromVariables(
  scope: ConfigScope,
  variables: Readonly<Record<string, string | undefined>>,
): Map<string, string> {
  const texts = new Map<string, string>()
  for (const key of keysOf(scope)) {
    const text = variables[configVariable(key.name)]
    if (text !== undefined) texts.set(key.name, text)
  }
  return texts
}
