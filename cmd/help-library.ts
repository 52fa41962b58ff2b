/** `stream help library`: the package as a library (src/library). A test runs its examples as they stand here. */

export const libraryText = `The npm package stream-hub is also a library for
scripts: ES modules, Node 24, with types.

Producing. send resolves when the record is durable; sendAll takes any iterable.

    import { connect } from 'stream-hub'

    const stream = await connect()
    const options = { partitions: 3, ifNotExists: true }
    await stream.admin.createTopic('clicks', options)
    const producer = stream.producer()
    const { partition, offset } = await producer.send('clicks', 'a line')
    const value = JSON.stringify({ page: '/' })
    await producer.send('clicks', { key: 'anna', value })
    await producer.sendAll('clicks', ['one', 'two', 'three'])
    console.log('first at', partition, offset)
    await stream.close()

Reading. A consumer is iterated; from and until are start, end, an offset or a
Date. Without until the loop goes on until break or close.

    import { connect } from 'stream-hub'

    const stream = await connect()
    const consumer = stream.consumer({ topics: 'clicks', until: 'end' })
    for await (const message of consumer) {
      console.log(message.partition, message.offset, message.text())
    }
    await stream.close()

Going on later: positions() says where to; keep it with what you made of the
messages.

    import { connect } from 'stream-hub'

    const stream = await connect()
    const options = { topics: 'clicks', from: 'start', until: 'end' }
    const first = stream.consumer(options)
    for await (const message of first) if (message.text() === 'one') break
    const rest = stream.consumer({ ...options, from: first.positions() })
    let count = 0
    for await (const message of rest) count += 1
    console.log('left', count)
    await stream.close()

Administering, and errors, which have a code, never only a text.

    import { connect, StreamError } from 'stream-hub'

    const stream = await connect({ connectTimeoutMs: 2000 })
    try {
      await stream.admin.createTopic('clicks')
    } catch (error) {
      if (!(error instanceof StreamError)) throw error
      console.log(error.code, error.exit, error.retriable)
    }
    const { partitions } = await stream.admin.describeTopic('clicks')
    console.log('partitions', partitions.length)
    await stream.admin.setTopicConfig('clicks', { 'retention.ms': 3600000 })
    await stream.close()

connect({ broker }) names a broker: ipc://PATH, tcp://HOST:PORT or
kafka://HOST:PORT. Default: the variable STREAM_BROKER, else your own daemon,
else the host's. No daemon is started, unless { autostart: true } says so.
Nothing of the process is touched: no signal handlers, no output, no exit.
Connections to several brokers may be open at a time.

Beyond this host: connect({ broker, tls: { ca }, login: { mechanism, username,
password } }) for kafka://, connect({ broker, curve: { keyFile } }) for tcp://
with the file that stream cluster keys add made; what is refused is NOT_ALLOWED.
rack: 'zone-a' names where the script runs, and consumers read from a replica
there.

A value is text or bytes; null is a tombstone. A message has key and value as
bytes or null, text() and json(), timestampMs and headers. Everything that is
opened has close(), and await using works. Consumers read committed records,
without a group.

The types (dist/index.d.ts) are the reference; what they hold changes only by
addition.`
