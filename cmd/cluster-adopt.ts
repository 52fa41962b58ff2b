/** `stream cluster adopt`: a single daemon's data become the first broker of a cluster, through the port Adoption. */

import { UsageError } from '../src/base/errors.ts'
import type { AdoptionRequest, AdoptionSummary } from '../src/ports/adoption.ts'
import { refuseOperands } from './cluster-shared.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { readEtcdConfig } from './etcd-settings.ts'
import { type CommandSpec, changeOptions, yesOption } from './option-table.ts'
import { confirm } from './prompt.ts'
import { printText } from './row-output.ts'
import { absolutePath, dataDirectory } from './settings.ts'

const DEFAULT_CLUSTER = 'default'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'cluster adopt',
  summary: "Make a single daemon's data the first broker of a cluster",
  description: [
    'The daemon of DIR must be stopped. Its topics, their settings, offsets of groups and transactions stay as they are: what it kept of them in DIR is copied into etcd as a new cluster, with DIR as its only broker so far. Started with --etcd the daemon goes on where it was; others join, and topics get replicas there: stream help cluster.',
    'There is no way back: from then on DIR belongs to the cluster. Refused where etcd has a cluster of that name. Broken off at any point, the same line ends it; meanwhile no daemon opens DIR.',
    'Certificates, user and password of etcd come from where the daemon takes them: the keys stream.etcd.*.',
  ],
  operands: [],
  options: [
    { long: 'etcd', argument: 'URL,...', help: 'the etcd that keeps the metadata from now on' },
    { long: 'cluster', argument: 'NAME', default: DEFAULT_CLUSTER, help: 'name of the new cluster in that etcd' },
    { long: 'data', argument: 'DIR', help: 'data directory; default $XDG_DATA_HOME/stream, of root /var/lib/stream' },
    yesOption,
    ...changeOptions,
  ],
  examples: [
    { line: 'stream cluster adopt --etcd http://127.0.0.1:2379 --dry-run' },
    { line: 'stream daemon stop && stream cluster adopt --etcd http://127.0.0.1:2379 -y' },
  ],
  exits: [
    [2, 'refused for want of -y'],
    [8, 'a daemon has the data, they have been moved already, or etcd has a cluster of that name'],
  ],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags } = args
  refuseOperands(args)
  const etcd = flags.text('etcd')
  if (etcd === undefined) {
    throw new UsageError('--etcd is missing', 'for example --etcd http://127.0.0.1:2379')
  }
  const { host } = deps
  const request: AdoptionRequest = {
    dataDirectory: absolutePath(host, flags.text('data') ?? dataDirectory(host)),
    etcd,
    etcdConfig: readEtcdConfig(flags, host),
    cluster: flags.text('cluster') ?? DEFAULT_CLUSTER,
  }
  const adoption = deps.openAdoption()
  const plan = await adoption.look(request)
  if (flags.has('dry-run')) {
    await printText(deps.stdio.output, `${sentence('would move', request, plan)}\n`)
    return 0
  }
  const question = `${sentence('Move', request, plan)}; there is no way back?`
  if (!(await confirm(deps, flags, question))) return 1
  const done = await adoption.adopt(request)
  const words = [
    `stream daemon start --etcd ${etcd} --cluster ${request.cluster} --node-id ${done.nodeId}`,
    `--data ${request.dataDirectory} --listen tcp://HOST:PORT`,
  ]
  await printText(
    deps.stdio.output,
    `${sentence('moved', request, done)}\nstart it with: ${words.join(' ')}\n`,
  )
  return 0
}

function sentence(
  verb: string,
  { cluster, dataDirectory: directory }: AdoptionRequest,
  { topics, partitions, nodeId }: AdoptionSummary,
): string {
  return `${verb} ${topics} topics with ${partitions} partitions of ${directory} to the cluster ${cluster}, as its broker ${nodeId}`
}
