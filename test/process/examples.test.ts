/** The examples of the administrative commands' help, run as they stand there by the built program. */
import { chmodSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { commands } from '../../cmd/commands.ts'
import { Program } from '../support/program.ts'

const nouns = [
  'topics',
  'cluster',
  'groups',
  'dlq',
  'mirror',
  'users',
  'daemon',
  'config',
  'context',
  'completion',
  'explain',
  'help',
  'version',
  'bench',
]

/** What must be so before an example can be run; all lines are run in one scratch home, in the order of the table. */
const before: Readonly<Record<string, string>> = {
  'topics list': 'stream topics create orders.eu',
  'topics describe': 'stream topics create orders --partitions 2; seq 9 | stream produce orders',
  'topics create': 'stream topics delete orders users --if-exists -y',
  'topics alter': 'stream topics create orders users --if-not-exists',
  'topics delete': 'stream topics create scratch test.1 --if-not-exists',
  'topics trim': 'stream topics create clicks --if-not-exists; seq 9 | stream produce clicks',
  'topics apply': 'stream topics describe orders clicks --json > topics.ndjson',
  'topics diff': 'stream topics create orders --if-not-exists',
  'topics wait':
    'stream topics delete orders -y; stream topics create orders; seq 1000000 | stream produce orders',
  'cluster reassign': 'stream topics create orders --if-not-exists',
  'groups list':
    'stream topics create orders old-topic --if-not-exists; seq 9 | stream produce orders; seq 9 | stream produce old-topic; stream consume orders old-topic -g nightly --until-end; stream consume orders -g etl-1 --until-end',
  'groups seek': 'stream consume orders -g nightly --until-end',
  'dlq list': `seq 20 | stream produce mails; stream consume mails -g mailer --from start --until-end --batch 20 --retry 0 --on-fail dlq --exec 'echo "timeout: no such user" >&2; exit 1'`,
  // Another daemon, which the context `east` names.
  mirror: `stream daemon run --ephemeral > east 2> /dev/null & until [ -s east ]; do sleep .1; done; E=$(cat east)
    stream context set east --broker "$E"; for t in orders clicks prices; do seq 99 | stream produce $t -b "$E"; done
    printf '{"value":"u","headers":[["country","DE"]]}\n' | stream produce users --json -b "$E"
    stream topics delete orders users clicks --if-exists -y`,
  'daemon start': 'stream daemon stop',
  'daemon run':
    'stream cluster keys --out run.key; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout run.pem.key -out run.pem -days 2 -subj /CN=x 2>/dev/null; chmod 600 run.pem.key',
  'daemon status': 'stream daemon start',
  'context show':
    'echo pw > pw; stream context set east --broker tcp://e:1 --secret sasl.password=file:$PWD/pw; stream context use east',
  'context use':
    'stream context set dev --broker ipc://$XDG_RUNTIME_DIR/stream/daemon.sock; stream context set east --broker ipc://$XDG_RUNTIME_DIR/stream/daemon.sock; stream daemon start; stream context use dev',
  'context delete': 'stream context set east --broker tcp://e:1',
  'users set': 'openssl rand -hex 20 > etl.pw',
  'users delete': 'echo pw | stream users set etl',
  completion: 'mkdir -p ~/.config/fish/completions',
}

/** Until it serves, however busy the machine; then it is told to end, and has to end well. */
const untilServing = (line: string): string =>
  `${line} & S=ipc://$PWD/other.sock; until stream topics list -b $S 2> /dev/null; do sleep .1; done; stream daemon stop -b $S; wait $!`

/** Longer than a test may take, or for another place; each with what is run in its stead. */
const instead: Readonly<Record<string, string>> = {
  'stream bench latency --size 1K --rate 1000/s --json':
    'stream bench latency --size 1K --rate 1000/s --json --records 500',
  'stream groups delete nightly -t old-topic -y':
    'stream consume old-topic orders -g nightly --until-end; stream groups delete nightly -t old-topic -y; stream consume orders -g nightly --until-end',
  'stream groups undo nightly --redo -y':
    'stream groups undo nightly -y && stream groups undo nightly --redo -y',
  'stream groups watch nightly': 'stream groups watch nightly -n 2',
  "stream groups watch 'etl-*' --every 10s --total":
    "stream groups watch 'etl-*' --every 100ms --total -n 2",
  // Of several brokers there is a witness (test/witness/jvm-cluster.ts); here is one.
  "stream cluster reassign --topics 'orders*' --brokers 1,2,4 --dry-run":
    "stream cluster reassign --topics 'orders*' --brokers 1 --dry-run",
  'stream cluster reassign --topics orders --replicas 3 --rate 20MiB/s --wait -y':
    'stream cluster reassign --topics orders --replicas 1 --rate 20MiB/s --wait -y',
  'stream cluster drain 3 --leaders-only -y --wait && ssh broker3 reboot':
    'stream cluster drain 3 --leaders-only -y --wait; [ $? = 3 ]',
  'stream cluster drain 3 --dry-run': 'stream cluster drain 1 --dry-run; [ $? = 8 ]',
  'stream cluster drain 3 --undo -y --wait': 'stream cluster drain 1 --undo -y --wait; [ $? = 3 ]',
  // What they do with an etcd: cluster-demo.test.ts, cluster-adopt.test.ts.
  'stream cluster demo': 'ETCD_BIN=/nowhere stream cluster demo; [ $? = 1 ]',
  'stream cluster demo ~/demo --daemons 5':
    'ETCD_BIN=/nowhere stream cluster demo ~/demo --daemons 5; [ $? = 1 ]',
  'stream cluster adopt --etcd http://127.0.0.1:2379 --dry-run':
    'stream daemon start; stream cluster adopt --etcd http://127.0.0.1:1 --dry-run; [ $? = 8 ]',
  'stream daemon stop && stream cluster adopt --etcd http://127.0.0.1:2379 -y':
    'stream daemon stop; stream cluster adopt --etcd http://127.0.0.1:1 -y; [ $? = 4 ] && stream daemon start',
  'stream cluster drain 3 -y --wait && stream cluster forget 3 -y':
    'stream cluster forget 3 -y; [ $? = 3 ]',
  'stream cluster forget 3 --dry-run': 'stream cluster forget 1 --dry-run; [ $? = 8 ]',
  "stream mirror kafka://east:9092 --topics 'orders*'": "stream mirror @east --topics 'orders*'",
  "stream mirror @east --topics clicks --rename '{cluster}.{topic}' -f":
    "timeout --preserve-status -s INT 2 stream mirror @east --topics clicks --rename '{cluster}.{topic}' -f; [ $? = 130 ]",
  "stream mirror status kafka://east:9092 --topics 'orders*' --json":
    "stream mirror status @east --topics 'orders*' --json",
  'stream mirror verify @east': 'stream mirror verify @east --topics east.clicks,prices',
  'stream daemon start --data /srv/stream': 'stream daemon stop; stream daemon start --data srv',
  'stream daemon run --listen kafka://127.0.0.1:9092 --listen ipc:///run/stream/daemon.sock':
    untilServing(
      'stream daemon run --data other --listen kafka://127.0.0.1:0 --listen ipc://$PWD/other.sock',
    ),
  'stream daemon run --listen tcp://0.0.0.0:7000 -X stream.curve.key.file=/etc/stream/cluster.key':
    untilServing(
      'stream daemon run --data other --listen tcp://0.0.0.0:0 --listen ipc://$PWD/other.sock -X stream.curve.key.file=run.key',
    ),
  'stream daemon run --listen kafka://0.0.0.0:9092 -X stream.kafka.tls.certificate.file=/etc/stream/kafka.pem -X stream.kafka.tls.key.file=/etc/stream/kafka.key -X sasl.enabled.mechanisms=SCRAM-SHA-512':
    untilServing(
      'stream daemon run --data other --listen kafka://0.0.0.0:0 --listen ipc://$PWD/other.sock -X stream.kafka.tls.certificate.file=run.pem -X stream.kafka.tls.key.file=run.pem.key -X sasl.enabled.mechanisms=SCRAM-SHA-512',
    ),
  'stream daemon run --ephemeral > addr &':
    'stream daemon run --ephemeral > addr & until [ -s addr ]; do sleep .1; done; stream daemon stop -b "$(cat addr)"; wait',
}

/** Run beside a source of their own, in mirror-link.test.ts. */
const ofLinks = ['link', 'pause', 'resume', 'promote', 'failback', 'unlink'].map(
  (verb) => `mirror ${verb}`,
)
const isOfLink = (line: string): boolean => /^stream mirror .*\bwest\b/.test(line)

describe('examples of the help', () => {
  let program: Program
  beforeAll(() => {
    program = new Program()
    writeFileSync(program.path('nightly.sh'), '#!/bin/sh\nexit 0\n')
    chmodSync(program.path('nightly.sh'), 0o755)
    program.ok(
      'mkdir -p config; STREAM_CONF_GROUP_INITIAL_REBALANCE_DELAY_MS=0 stream daemon start',
    )
  })
  afterAll(() => {
    // The examples leave a context in use, and `daemon stop` would go where it points.
    program?.shell('stream daemon stop -b "$(cat east)"; rm -rf config; stream daemon stop')
    program?.stop()
  })

  const mine = commands.filter(
    ({ name }) => nouns.includes(name.split(' ')[0] ?? '') && !ofLinks.includes(name),
  )
  for (const { name, load } of mine) {
    it(`${name}`, async () => {
      const { spec } = await load()
      expect(spec.examples.length).toBeGreaterThan(0)
      const setup = before[name]
      if (setup !== undefined) program.shell(setup)
      for (const { line } of spec.examples) {
        if (isOfLink(line)) continue
        // A second creation of the same names would be refused, as it should be.
        const outcome = program.shell(`set -o pipefail; ${instead[line] ?? line}`)
        expect(outcome.status, `${line}\n${outcome.stderr}`).toBe(0)
      }
    })
  }
})
