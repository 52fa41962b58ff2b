/** The topics of `stream help`: what no single command explains. */

import { exitCodes } from './exit-code.ts'
import { clusterText } from './help-cluster.ts'
import { libraryText } from './help-library.ts'
import { lineProtocol } from './help-line-protocol.ts'
import { wrapText } from './wrap-text.ts'

export interface HelpTopic {
  readonly name: string
  readonly summary: string
  readonly text: string
}

const formats = String.raw`A record is the bytes of a line without its end: newline, or -D STR, or NUL
with -0. Bytes are kept as they are, in both directions: invalid UTF-8, NUL, a
lone carriage return. An empty line is a record with an empty value; a last
line without a newline is a record; empty input is none.

  value   lines (the default). -K SEP: key SEP value. --null-value TOKEN: TOKEN
          is null.
  raw     input: all of each input is one record; output: values back to back.
  sized   before each value its length: 4 bytes, big-endian, signed, -1 for
          null.
  json    one object a line, the envelope:

  {"v":1,"topic":"t","partition":0,"offset":42,"ts":1730000000000,
   "key":"k","value":"...","headers":[["h","x"],["n",null]]}

Printed on one line, always these eight fields in this order. ts is
milliseconds since 1970 or null. Texts are strings if the bytes are UTF-8, else
{"b64":"..."}; null is null, which is not "". --embed prints a value that is a
JSON object or array as that.

As input only "value" is required. topic and partition count only with
--keep-topic and --keep-partition, offset never; ts absent: now, null: none.
headers may be an object. A number, boolean, array or object as key or value
stands for its own JSON text. Of a repeated field the last counts; unknown
fields are ignored.

  stream cat A --json | stream produce B --json --keep-partition

gives B the same keys, values, headers, timestamps, partitions and order.

-F FMT writes and reads records by a format; one string serves both ends of a
pipe. Nothing is added: write the newline. Literals: \n \t \r \0 \\ \{ \xHH, %%.

  %v %k          value, key (%s is %v)
  %V %K          their lengths in bytes, -1 for null (%S is %V); %R is %V{big32}
  %t %T          topic, its length           %p  partition     %d  timestamp
  %o %e %i       offset, leader epoch, count in this run from 1
  %H  %h{...}    number of headers; for each header a format with %k %v %K %V
  %h %j          a=1,b=2; the envelope
  %[ %| %]       log start, last stable offset, high watermark of the partition

Modifiers, separated by commas: %v{base64} {hex} {json} {null=TEXT}; numbers
{ascii} {hex} {big8} ... {big64} {little8} ... {little64}; %d{ms} {s} {iso}
{strftime[...]} {local}.

To read, each value, key and number in digits needs a literal after it, or its
length before it; it ends at the first occurrence of the literal. What does not
match is an error of that record, and reading goes on after the next final
literal.

  stream cat A -F '%k{json}\t%v{json}\n' | sort
  stream cat A -F '%K{big32}%k%V{big32}%v' |
    stream produce B -F '%K{big32}%k%V{big32}%v'

Filters, where records are read: -k KEY, -H NAME=VALUE, and regular expressions
with --grep [!]k:/RE/, v:/RE/, h:NAME=/RE/, t:/RE/ (an i after it: any case).`

const positions = `A position is a place in each partition.

  start, end      the first record that is there; behind the last one
  N               the offset N
  +N, -N          N after the start; N before the end
  TIME            the first record stamped at or after it
  P=POS,P=POS     a place of single partitions; TOPIC/P=POS with several topics

TIME is now, today, yesterday, 2026-03-01, 2026-03-01T09:30,
2026-03-01T09:30:00Z, 09:30, @SECONDS, @MILLISECONDS, -5m (ago), +5m. Dates
without a zone are local. With a unit it is time, without one records: -5 is
five records, -5m five minutes.

  --from POS      where to start, inclusive
  --since TIME    the same, for times only; --since 1h is an hour ago
  --until POS     where to stop, exclusive
  --until-end     the end as it is at the start

A read that follows starts at the end; a bounded one at the start. Other ends:
-n N records, --bytes SIZE, --idle DUR without a record (exit 0), --timeout DUR
(exit 7).

A position that is gone (retention, trim): reading goes on at the log start
with a warning, and a bounded read exits 5.`

const guarantees = `With --acks all, the default, a record counts as delivered when every replica
that must have it has it on its disk (topics with flush.messages=1, the
default). Exit 0 of produce means that all records read are delivered; each is
there once, in input order within its partition, even if the connection was
lost in between.

A rerun of produce sends again what an earlier run has delivered: the report's
through_line says from which line to go on.

A copy by stream mirror has each record once, however often it was broken off:
how far it has come is committed together with the records.

End of input is not success: to the next process in a pipe a filter that died
looks like one that is done. Use set -o pipefail.

A reader sees only records that are committed, and with --until-end all that
were there when it started.

What survives a power cut, a kill and the loss of a disk depends on the topic:
flush.messages=1 syncs before it acknowledges; above that up to flush.ms of
records may be lost in a power cut, and consumers may have read them.`

const signals = `SIGINT, SIGTERM, SIGHUP   stop reading; deliver or write what was taken; then
                          die by that signal (130, 143, 129). produce drops an
                          unfinished last line and says so. A second signal
                          ends at once.
SIGPIPE                   when the reader of the output goes away: no message,
                          death by SIGPIPE (141), never in the middle of a
                          record.
SIGUSR1                   prints the progress; where it exists SIGINFO too
                          (Ctrl-T).`

function exitCodeText(): string {
  const lines = exitCodes.flatMap(([code, meaning]) => {
    const [first = '', ...rest] = wrapText(meaning, 72)
    return [`  ${String(code).padStart(3)}  ${first}`, ...rest.map((line) => `       ${line}`)]
  })
  const order = 'If several apply: a signal, then 2, 4, 6 (before any work), then 8, 9, 5, 7, 3, 1.'
  return [...lines, '', ...wrapText(order, 79), 'More on one: stream explain exit N.'].join('\n')
}

export const helpTopics: readonly HelpTopic[] = [
  {
    name: 'formats',
    summary: 'records as text: lines, raw, sized, the JSON envelope, the format language',
    text: formats,
  },
  {
    name: 'positions',
    summary: 'where to start and stop: --from, --since, --until',
    text: positions,
  },
  { name: 'guarantees', summary: 'what is promised, and what is not', text: guarantees },
  { name: 'exit-codes', summary: 'what the exit codes mean', text: exitCodeText() },
  { name: 'signals', summary: 'what signals do', text: signals },
  { name: 'cluster', summary: 'a cluster from day to day, line by line', text: clusterText },
  {
    name: 'line-protocol',
    summary: 'records over a UNIX socket without a process for each: PUB, LINE',
    text: lineProtocol,
  },
  { name: 'library', summary: 'the package as a library for scripts', text: libraryText },
]
