/** `stream daemon run`: in the foreground, in the place of this process. */

import { UsageError } from '../src/base/errors.ts'
import { daemonArguments, startOptions } from './daemon-shared.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { CommandSpec } from './option-table.ts'
import { runtimeDirectory } from './settings.ts'

export const spec: CommandSpec = {
  name: 'daemon run',
  summary: 'Run the daemon in the foreground',
  description: [
    'Ends with SIGTERM or SIGINT, after a clean close.',
    'An address that other hosts reach needs protection: tcp:// a key file (stream cluster keys; -X stream.curve.key.file=FILE); kafka:// TLS (-X stream.kafka.tls.certificate.file=FILE -X stream.kafka.tls.key.file=FILE), logins (-X sasl.enabled.mechanisms=SCRAM-SHA-512; stream users set NAME), or both. In clear text and without a login it listens only with -X stream.allow.plaintext=true: on a network that you trust.',
    'A changed certificate counts with the next connection. With -X stream.kafka.tls.client.ca.file=FILE only clients get in that show a certificate of that authority.',
  ],
  operands: [],
  options: startOptions,
  examples: [
    {
      line: 'stream daemon run --listen kafka://127.0.0.1:9092 --listen ipc:///run/stream/daemon.sock',
    },
    {
      line: 'stream daemon run --listen tcp://0.0.0.0:7000 -X stream.curve.key.file=/etc/stream/cluster.key',
    },
    {
      line: 'stream daemon run --listen kafka://0.0.0.0:9092 -X stream.kafka.tls.certificate.file=/etc/stream/kafka.pem -X stream.kafka.tls.key.file=/etc/stream/kafka.key -X sasl.enabled.mechanisms=SCRAM-SHA-512',
    },
    { line: 'stream daemon run --ephemeral > addr &' },
  ],
  exits: [
    [6, 'a key file that others may read; the daemons of the cluster do not let it in'],
    [8, 'the data is in use'],
  ],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  if (args.operands.length > 0) throw new UsageError(`unexpected argument ${args.operands[0]}`)
  deps.host.makeDirectory(runtimeDirectory(deps.host), 0o700)
  return deps.runDaemon(daemonArguments(deps, args.flags))
}
