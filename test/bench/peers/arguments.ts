/** What `npm run bench:peers -- …` is told, and how much of everything a run then does. */

export const peerNames = ['kafka', 'nats', 'redis'] as const
export type PeerName = (typeof peerNames)[number]

export const tableNames = ['produce', 'consume', 'group', 'latency', 'start-up', 'memory'] as const
export type TableName = (typeof tableNames)[number]

export interface Plan {
  readonly quick: boolean
  readonly save: boolean
  readonly help: boolean
  /** Whose servers are started; the limit and ours always run. */
  readonly peers: readonly PeerName[]
  /** Only these tables; all when empty. */
  readonly tables: readonly TableName[]
  readonly lineBytes: readonly number[]
  readonly megabytes: number
  /** Of throughput; one more, not counted, comes first for the first line size unless `quick`. */
  readonly rounds: number
  /** Touched before each timed run. */
  readonly warmBytes: number
  readonly latencyLines: number
  /** Once for each contender, before its first round. */
  readonly latencyWarmLines: number
  readonly latencyRounds: number
  readonly startUpRounds: number
}

export const usage = `npm run bench:peers -- [--quick] [--save] [--only kafka,nats,redis]

Runs \`cat\`, ours, Kafka, NATS JetStream and Redis Streams in turn on the same lines and prints Markdown tables.
A full run takes up to 25 minutes.

  --quick      small payloads, one round: two to three minutes, figures to look at only
  --save       also write test/bench/PEERS.md
  --only LIST  start the servers of these peers only
  --tables LIST  only these: ${tableNames.join(', ')}
`

/** @throws Error that names the argument which is not understood */
export function parseArguments(args: readonly string[]): Plan {
  let quick = false
  let save = false
  let help = false
  let peers: readonly PeerName[] = peerNames
  let tables: readonly TableName[] = []
  const rest = [...args]
  for (let each = rest.shift(); each !== undefined; each = rest.shift()) {
    if (each === '--quick') quick = true
    else if (each === '--save') save = true
    else if (each === '--help' || each === '-h') help = true
    else if (each === '--only' || each.startsWith('--only='))
      peers = parsePeers(each === '--only' ? rest.shift() : each.slice('--only='.length))
    else if (each === '--tables') tables = parseTables(rest.shift())
    else
      throw new Error(
        `no such argument: ${each}; there are --quick, --save, --only LIST, --tables LIST`,
      )
  }
  return {
    quick,
    save,
    help,
    peers,
    tables,
    lineBytes: [100, 1000],
    megabytes: quick ? 40 : 400,
    rounds: quick ? 1 : 5,
    warmBytes: quick ? 4e8 : 1.5e9,
    latencyLines: quick ? 200 : 1000,
    latencyWarmLines: quick ? 1000 : 25_000,
    latencyRounds: quick ? 1 : 15,
    startUpRounds: quick ? 3 : 15,
  }
}

function parsePeers(list: string | undefined): readonly PeerName[] {
  if (list === undefined || list === '')
    throw new Error(`--only wants names: ${peerNames.join(',')}`)
  return list.split(',').map((name) => {
    const known = peerNames.find((each) => each === name)
    if (known === undefined)
      throw new Error(`--only: no such peer: ${name}; there are ${peerNames.join(', ')}`)
    return known
  })
}

function parseTables(list: string | undefined): readonly TableName[] {
  const names = (list ?? '').split(',')
  const known: readonly string[] = tableNames
  const strange = names.find((name) => !known.includes(name))
  if (strange === undefined) return names as TableName[]
  throw new Error(`no such table: ${strange}; there are ${tableNames.join(', ')}`)
}
