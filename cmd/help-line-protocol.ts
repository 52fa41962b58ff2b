/** `stream help line-protocol`: the protocol of daemon/doors/line-reader.ts for those who write a client of it. */

export const lineProtocol = `For programs that cannot start a process for each
record or each reader: a UNIX socket, plain lines, one answer for each request.
socat, nc -U and any language can speak it.

The socket is line.sock beside the daemon's daemon.sock:
$XDG_RUNTIME_DIR/stream/line.sock, or /tmp/stream-UID/line.sock without that
variable. stream daemon status lists it as line://PATH; --listen line://PATH
puts it elsewhere, -X stream.line.enable=false leaves it out. Its mode is 0600:
whoever may open it may write and read every topic.

Requests

  PUB TOPIC LENGTH [key=LENGTH] [partition=N] [ts=MILLISECONDS]
  followed by the bytes of the key, if it has one, and of the value: exactly so
  many, any bytes. LENGTH -1 is a null value. The partition is chosen by the
  key's hash as every client does it (murmur2); without a key it is any. ts is
  the record's timestamp; default now.

  LINE TOPIC VALUE
  one record, the rest of the line. No key; no newline in it.

  SUB TOPIC [partition=N] [from=start|end|OFFSET] [until=end]
  the records of the topic, or of one partition, from there on (default: end, so
  what comes from now). from=OFFSET is for one partition. With until=end it is
  over where the partitions end at this moment.

  PING    answered with +PONG
  INFO    answered with +INFO and a JSON object: protocol, version,
          recordBytesMax: of a record with its key, in a topic with the
          default max.message.bytes
  QUIT    answered with +BYE; the connection ends

A request line ends with a newline; a carriage return before it belongs to the
end. Empty lines between requests are ignored, so a newline may follow the bytes
of a PUB or not.

Answers, one line each, in the order of the requests

  +OK PARTITION OFFSET   the record is durable, as with produce --acks all
  -ERR CODE MESSAGE      it is not in the topic; CODE is Kafka's name of the
                         error: UNKNOWN_TOPIC_OR_PARTITION, ...
                         After REQUEST_TIMED_OUT and NOT_LEADER_OR_FOLLOWER it
                         may be there nevertheless.
  +SUB TOPIC PARTITIONS  messages of so many partitions follow
  -ERR BAD_REQUEST ...   nobody knows where the next request begins: the
                         connection ends

Messages, between the answers, from each SUB on

  MSG TOPIC PARTITION OFFSET TIMESTAMP KEY-LENGTH LENGTH
  followed by the bytes of the key and of the value, and a newline. A length of
  -1 is a null. Headers are not sent. Each partition in the order of its
  offsets; of transactions only what is committed. While a partition has no
  leader, its messages wait.

  +END TOPIC               until=end, and that is reached
  -END TOPIC CODE MESSAGE  it cannot go on: the topic is deleted, or records
                           were (OFFSET_OUT_OF_RANGE), or this daemon of a
                           cluster has no replica of it

Requests may be sent without waiting for answers (pipelined): what arrives
together becomes one batch and shares one sync, which is many times faster. The
daemon stops reading while a client does not take its answers; to one that does
not take its messages no more are sent, and nothing is left out. After the
client has sent its end of input it still gets all answers, and messages up to
each until=end; a SUB without that ends there. A request that the input ends in
is not taken. A SUB ends with its connection: who comes back asks for
from=OFFSET, the last offset and one.

If the connection is lost, what was not answered may be in the topic or not:
sent again it may be there twice. Exactly once needs produce or a Kafka client.
No topic is made, unless the daemon has auto.create.topics.enable=true.

  S=$XDG_RUNTIME_DIR/stream/line.sock
  echo 'LINE clicks hello' | socat -t 30 - UNIX-CONNECT:$S
  tail -F app.log | sed -u 's/^/LINE app /' |
    socat -t 30 - UNIX-CONNECT:$S > acks
  printf 'PUB clicks 5 key=2\\nk1hello' | nc -N -U $S
  echo 'SUB clicks from=start until=end' | socat -t 30 - UNIX-CONNECT:$S
  echo 'SUB clicks' | socat -,ignoreeof UNIX-CONNECT:$S

In Python:

  import socket
  s = socket.socket(socket.AF_UNIX)
  s.connect(path)
  s.sendall(b'PUB clicks %d\\n%s' % (len(value), value))
  lines = s.makefile('rb')
  answer = lines.readline()               # b'+OK 0 42\\n'
  s.sendall(b'SUB clicks partition=0 from=%d\\n' % int(answer.split()[2]))
  assert lines.readline() == b'+SUB clicks 1\\n'
  _, _, partition, offset, ms, key, size = lines.readline().split()
  got = lines.read(max(0, int(key)) + int(size) + 1)[max(0, int(key)):-1]`
