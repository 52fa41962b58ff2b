/** `stream cluster keys`: the key file that the daemons of a cluster share, and the key files of its clients. */

import {
  type AllowedClient,
  assertPrivate,
  type ClusterKeys,
  clientNamePattern,
  formatClientKeys,
  formatClusterKeys,
  parseClusterKeys,
} from '../src/base/curve-keys.ts'
import { StreamError, UsageError } from '../src/base/errors.ts'
import { nearestName } from '../src/config/nearest-name.ts'
import type { Host } from '../src/ports/host.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import { configDirectory } from './config-layers.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import { filePath } from './settings.ts'

const shape: RowShape = { kind: 'cluster-key', columns: ['NAME', 'KEY', 'FILE'] }
const FILE_MODE = 0o600
/** The daemons' own row. */
const CLUSTER = 'cluster'
const verbs = ['add', 'list', 'revoke'] as const

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'cluster keys',
  summary: 'Make the keys of a cluster and of its clients',
  description: [
    'Without a verb: makes the key file of a new cluster. The same file goes to every daemon (daemon run -X stream.curve.key.file=FILE); their tcp:// then lets in only daemons that have it, and clients on its list, and nobody else reads what is sent. One who has this file is a daemon of the cluster: keep it as the data.',
    'add NAME: makes a key file for a client and puts its public key on the list; the client names it (curve.key.file, in a context or with -X). revoke NAME: takes it off. list: who is on it. A running daemon heeds a changed list with the next connection; connections that stand end by themselves or with the daemon. The list is a line for each client in the key file: give the changed file to all daemons.',
    "The cluster's own key cannot be exchanged while the cluster runs, for daemons with the former and with the new one do not let each other in: make a new file and new ones for the clients, stop all daemons, put it in its place on every host, and start them.",
    'Files have mode 0600, and are refused where others may read them. KEY is the public key; a secret key is never printed.',
  ],
  operands: [{ name: 'VERB', isOptional: true }, { name: 'NAME', isOptional: true }],
  options: [
    { long: 'out', argument: 'FILE', help: "the file to make; default $XDG_CONFIG_HOME/stream/cluster.key, of a client ./NAME.key" },
    { long: 'file', argument: 'FILE', help: "of add, list, revoke: the cluster's key file; default $XDG_CONFIG_HOME/stream/cluster.key" },
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [
    { line: 'stream cluster keys --out cluster.key' },
    { line: 'stream cluster keys add etl --file cluster.key' },
    { line: 'stream cluster keys revoke etl --file cluster.key' },
  ],
  exits: [
    [3, 'no such file, or no such client'],
    [6, 'a key file that others may read'],
    [8, 'the file or the client is there already'],
  ],
}

export async function run(deps: CommandDeps, { flags, operands }: CommandArgs): Promise<number> {
  const [verb, name, extra] = operands
  if (verb !== undefined && !(verbs as readonly string[]).includes(verb)) {
    const nearest = nearestName(verb, verbs)
    throw new UsageError(
      `${verb}: not a verb of cluster keys`,
      nearest === undefined ? 'one of add, list, revoke' : `did you mean ${nearest}?`,
    )
  }
  const takesName = verb === 'add' || verb === 'revoke'
  if (takesName && name === undefined) throw new UsageError(`cluster keys ${verb}: NAME is missing`)
  const surplus = takesName ? extra : name
  if (surplus !== undefined) throw new UsageError(`unexpected argument ${surplus}`)
  const { host } = deps
  const usual = `${configDirectory(host)}/cluster.key`
  const out = flags.text('out')
  const file = flags.text('file')
  if (out !== undefined && (verb === 'list' || verb === 'revoke')) {
    throw new UsageError(`cluster keys ${verb} makes no file`, "--file names the cluster's")
  }
  if (file !== undefined && verb === undefined) {
    throw new UsageError('--file is for add, list and revoke', 'where to write: --out FILE')
  }
  const clusterPath = file === undefined ? usual : filePath(host, file)
  const print = async (rows: readonly Row[]): Promise<number> => {
    await printRows(deps, flags, shape, rows)
    return 0
  }
  switch (verb) {
    case undefined: {
      if (out === undefined) host.makeDirectory(configDirectory(host), 0o700)
      return print([await makeCluster(deps, out === undefined ? usual : filePath(host, out))])
    }
    case 'add': {
      const client = checkedName(name ?? '')
      const path = filePath(host, out ?? `${client}.key`)
      return print([await addClient(deps, clusterPath, client, path)])
    }
    case 'revoke':
      return print([revokeClient(host, clusterPath, name ?? '')])
    default: {
      const { server, clients } = readCluster(host, clusterPath).keys
      return print([
        [CLUSTER, server.publicKey, clusterPath],
        ...clients.map((client): Row => [client.name, client.publicKey, null]),
      ])
    }
  }
}

async function makeCluster(deps: CommandDeps, path: string): Promise<Row> {
  assertNew(deps.host, path)
  const server = await deps.makeCurveKeyPair()
  const keys: ClusterKeys = { server, clients: [] }
  deps.host.writeFile(path, Buffer.from(formatClusterKeys(keys)), FILE_MODE)
  deps.console.note(`give it to every daemon: stream daemon run -X stream.curve.key.file=${path}`)
  return [CLUSTER, server.publicKey, path]
}

/** The client's file first: a key on the list that nobody has does no harm, a file that is not let in misleads. */
async function addClient(
  deps: CommandDeps,
  clusterPath: string,
  name: string,
  path: string,
): Promise<Row> {
  const { host } = deps
  const release = host.lockFile(`${clusterPath}.lock`)
  try {
    const { keys, text } = readCluster(host, clusterPath)
    if (keys.clients.some((client) => client.name === name)) {
      throw new StreamError('CONFLICT', `${name}: on the list of ${clusterPath} already`, {
        target: name,
        hint: `another name; or first: stream cluster keys revoke ${name}`,
      })
    }
    assertNew(host, path)
    const pair = await deps.makeCurveKeyPair()
    const serverKey = keys.server.publicKey
    const content = formatClientKeys(name, { ...pair, serverKey })
    host.writeFile(path, Buffer.from(content), FILE_MODE)
    const line = `client.${name} = ${pair.publicKey}\n`
    const gap = text === '' || text.endsWith('\n') ? '' : '\n'
    host.writeFile(clusterPath, Buffer.from(`${text}${gap}${line}`), FILE_MODE)
    deps.console.note(`the client names it: stream … -X curve.key.file=${path}`)
    return [name, pair.publicKey, path]
  } finally {
    release()
  }
}

function revokeClient(host: Host, clusterPath: string, name: string): Row {
  const release = host.lockFile(`${clusterPath}.lock`)
  try {
    const { keys, text } = readCluster(host, clusterPath)
    const client = keys.clients.find((candidate) => candidate.name === name)
    if (client === undefined) throw unknownClient(name, clusterPath, keys.clients)
    const kept = text.split('\n').filter((line) => !isLineOf(line, name))
    host.writeFile(clusterPath, Buffer.from(kept.join('\n')), FILE_MODE)
    return [name, client.publicKey, null]
  } finally {
    release()
  }
}

function isLineOf(line: string, name: string): boolean {
  const cut = line.indexOf('=')
  return cut > 0 && line.slice(0, cut).trim() === `client.${name}`
}

function readCluster(
  host: Host,
  path: string,
): { readonly keys: ClusterKeys; readonly text: string } {
  const bytes = host.readFile(path)
  if (bytes === undefined) {
    throw new StreamError('FILE_NOT_FOUND', `${path}: no such file`, {
      target: path,
      hint: 'make the keys of a cluster: stream cluster keys; or name them: --file FILE',
    })
  }
  assertPrivate(path, host.stat(path)?.mode ?? 0)
  const text = Buffer.from(bytes).toString('utf8')
  return { keys: parseClusterKeys(text, path), text }
}

/** Who overwrites a key file shuts out whoever has it. */
function assertNew(host: Host, path: string): void {
  if (host.stat(path) === undefined) return
  throw new StreamError('CONFLICT', `${path}: there already, and keys are never overwritten`, {
    target: path,
    hint: 'name another file: --out FILE',
  })
}

function checkedName(name: string): string {
  if (clientNamePattern.test(name) && name !== CLUSTER) return name
  throw new UsageError(
    `${name}: no name for a client`,
    name === CLUSTER ? 'that is the daemons themselves' : 'letters, digits, . _ and -, at most 64',
  )
}

function unknownClient(name: string, path: string, clients: readonly AllowedClient[]): StreamError {
  const nearest = nearestName(
    name,
    clients.map((client) => client.name),
  )
  return new StreamError('NAME_UNKNOWN', `${name}: not on the list of ${path}`, {
    target: name,
    hint:
      nearest === undefined
        ? 'to see who is: stream cluster keys list'
        : `did you mean ${nearest}?`,
  })
}
