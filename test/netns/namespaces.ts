/**
 * Hosts on one machine: network namespaces on a bridge of their own, and nftables rules in them that drop packets. The bridge
 * stands in a namespace too, so nothing is changed in the machine's own network, and deleting the namespaces takes all away.
 *
 * A rule stands at the receiver and drops what comes from one address: a cut of one direction. Links that are open feel it as a
 * dead cable: no reset, no end of stream.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'

/** Names carry the process that made them: what a killed run has left behind is found by it. */
const PREFIX = 'stns'
const NETWORK = '10.213.77'

export interface Host {
  readonly name: string
  readonly address: string
  /** Of its network namespace, for `inside`. */
  readonly namespace: string
}

/** Why namespaces cannot be used here; undefined: they can. */
export function noNamespaces(): string | undefined {
  if (process.platform !== 'linux') return 'network namespaces are of Linux'
  if (process.getuid?.() !== 0) return 'network namespaces need root'
  for (const program of ['ip', 'nft', 'nsenter']) {
    if (spawnSync(program, ['-V'], { stdio: 'ignore' }).error !== undefined)
      return `${program} is not installed (iproute2, nftables, util-linux)`
  }
  const name = `${PREFIX}${process.pid}x`
  const isAble = run(['ip', 'netns', 'add', name]) === '' && run(inside(name, tableWords)) === ''
  run(['ip', 'netns', 'delete', name])
  return isAble ? undefined : 'this kernel or container gives no network namespaces with nftables'
}

const tableWords = ['nft', 'add', 'table', 'ip', 'cuts']

export class Network {
  readonly #hosts = new Map<string, Host>()
  readonly #cuts = new Set<{ readonly from: Host; readonly to: Host }>()
  readonly #switch = `${PREFIX}${process.pid}sw`

  constructor() {
    sweepNamespaces()
    must(['ip', 'netns', 'add', this.#switch])
    must(inside(this.#switch, ['ip', 'link', 'add', 'br0', 'type', 'bridge']))
    must(inside(this.#switch, ['ip', 'link', 'set', 'br0', 'up']))
  }

  /** @param name  short: letters and digits */
  add(name: string): Host {
    const number = this.#hosts.size + 1
    const host = {
      name,
      address: `${NETWORK}.${number}`,
      namespace: `${PREFIX}${process.pid}${name}`,
    }
    const port = `p${number}`
    const { namespace } = host
    must(['ip', 'netns', 'add', namespace])
    this.#hosts.set(name, host)
    const words = ['ip', 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0']
    must(inside(this.#switch, [...words, 'netns', namespace]))
    must(inside(this.#switch, ['ip', 'link', 'set', port, 'master', 'br0', 'up']))
    must(inside(namespace, ['ip', 'address', 'add', `${host.address}/24`, 'dev', 'eth0']))
    must(inside(namespace, ['ip', 'link', 'set', 'eth0', 'up']))
    must(inside(namespace, ['ip', 'link', 'set', 'lo', 'up']))
    must(inside(namespace, tableWords))
    const hook = '{ type filter hook input priority 0; policy accept; }'
    must(inside(namespace, ['nft', `add chain ip cuts input ${hook}`]))
    return host
  }

  /** What `from` sends no longer reaches `to`, until the returned function is called. */
  cut(from: Host, to: Host): () => void {
    const cut = { from, to }
    this.#cuts.add(cut)
    this.#write(to)
    return () => {
      this.#cuts.delete(cut)
      this.#write(to)
    }
  }

  /** Ends every cut. */
  heal(): void {
    const hosts = new Set([...this.#cuts].map(({ to }) => to))
    this.#cuts.clear()
    for (const host of hosts) this.#write(host)
  }

  /** The rules of a host as they should be now, in one step. */
  #write(to: Host): void {
    const sources = [...this.#cuts].filter((cut) => cut.to === to).map((cut) => cut.from.address)
    const rules = [...new Set(sources)].map((it) => `; add rule ip cuts input ip saddr ${it} drop`)
    must(inside(to.namespace, ['nft', `flush chain ip cuts input${rules.join('')}`]))
  }

  remove(): void {
    for (const { namespace } of this.#hosts.values()) run(['ip', 'netns', 'delete', namespace])
    run(['ip', 'netns', 'delete', this.#switch])
    this.#hosts.clear()
  }
}

/**
 * Words that run a command in a host's network, in place of nsenter itself. `ip netns exec` would give it a copy of all mounts too,
 * which keeps a file system alive after it was unmounted here.
 */
export function inside(namespace: string, words: readonly string[]): string[] {
  return ['nsenter', `--net=/run/netns/${namespace}`, ...words]
}

/** Deletes namespaces of runs that are no more. */
function sweepNamespaces(): void {
  if (!existsSync('/run/netns')) return
  for (const name of readdirSync('/run/netns')) {
    const pid = new RegExp(`^${PREFIX}(\\d+)[a-z]`).exec(name)?.[1]
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) run(['ip', 'netns', 'delete', name])
  }
}

/** @returns what it complained of; empty: it went well */
export function run(words: readonly string[]): string {
  const [command = '', ...rest] = words
  const result = spawnSync(command, rest, { encoding: 'utf8', timeout: 30_000 })
  if (result.status === 0) return ''
  return `${words.join(' ')}: ${result.error?.message ?? (result.stderr.trim() || `exit ${result.status}`)}`
}

export function must(words: readonly string[]): void {
  const complaint = run(words)
  if (complaint !== '') throw new Error(complaint)
}

/** What a command prints. @throws Error with what it complained of */
export function textOf(words: readonly string[]): string {
  const [command = '', ...rest] = words
  const result = spawnSync(command, rest, { encoding: 'utf8', timeout: 30_000 })
  if (result.status === 0) return result.stdout
  throw new Error(`${words.join(' ')}: ${result.error?.message ?? result.stderr.trim()}`)
}
