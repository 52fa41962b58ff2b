/** `npm run bench:peers`: ours, the limit and the peers in one run; see `arguments.ts` for what it is told. */
import { writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import { fileBytes, makePayload, makeScratch, repository, type Scratch } from '../harness.ts'
import { type Plan, parseArguments, usage } from './arguments.ts'
import type { Label, Payload, Payloads, Peer } from './contender.ts'
import { KafkaPeer } from './kafka.ts'
import { Limit } from './limit.ts'
import { NatsPeer } from './nats.ts'
import { Ours } from './ours.ts'
import { raceLatency } from './pipe-latency.ts'
import { firstLine, measureMemory, race, raceStartUp, report, stopOnSignals } from './race.ts'
import { RedisPeer } from './redis.ts'
import { peakMegabytes } from './server.ts'
import {
  latencySection,
  type MemoryRow,
  markdown,
  memorySection,
  type Section,
  startUpSection,
  throughputSection,
} from './table.ts'

const notes = `Medians of one run, contenders in turn, the disk settled and memory warmed before each; "ours is" is the median of the ratios of the same rounds, ours
durable whatever the peer's durability. Wall time of whole command lines, start-up included, but for the perf tools' own figures. Slow contenders
get the first lines of the same payload (column "lines"). Latency: a line into the producer's pipe until it is out of the consumer's, one at a
time, compared at the same durability; all pipes have been warmed for as long before, and stay open. NATS and Redis have no commands for that: thin Node programs on raw sockets stand in, judged by such programs on
our line protocol, and do the unacknowledged publishes and raw reads; a NATS below 2.10, Debian's, cannot sync always. Perf tools and raw reads print nothing. Bold: ours. The machine is shared: absolute figures drift, ratios hold.`

async function main(): Promise<void> {
  const plan = parseArguments(process.argv.slice(2))
  if (plan.help) {
    process.stdout.write(usage)
    return
  }
  const scratch = makeScratch()
  const ours = new Ours()
  stopOnSignals()
  const peers: Peer[] = [new Limit(), ours, ...plan.peers.map(makePeer)]
  const running: Peer[] = []
  const absent: { readonly title: string; readonly reason: string }[] = []
  try {
    for (const peer of peers) {
      report(`starting ${peer.title}`)
      try {
        // Before the start: a server that came up and then failed must be stopped too.
        running.push(peer)
        await peer.start({ scratch, quick: plan.quick })
      } catch (error) {
        if (peer === ours) throw error
        running.pop()
        await peer.stop()
        absent.push({ title: peer.title, reason: firstLine(error) })
        report(`${peer.title}: ${String(error)}`)
      }
    }
    const sections = await measure(plan, { scratch, ours, peers: running, absent })
    const text = `${machine()}\n\n${notes}\n\n${markdown(sections)}\n`
    process.stdout.write(text)
    if (plan.save)
      writeFileSync(join(repository, 'test/bench/PEERS.md'), `# Ours and its peers\n\n${text}`)
  } finally {
    for (const peer of running)
      await peer.stop().catch((error) => report(`${peer.title}: ${String(error)}`))
    scratch.stop()
  }
}

function makePeer(name: Plan['peers'][number]): Peer {
  switch (name) {
    case 'kafka':
      return new KafkaPeer()
    case 'nats':
      return new NatsPeer()
    case 'redis':
      return new RedisPeer()
  }
}

interface Field {
  readonly scratch: Scratch
  readonly ours: Peer
  readonly peers: readonly Peer[]
  readonly absent: readonly { readonly title: string; readonly reason: string }[]
}

async function measure(plan: Plan, field: Field): Promise<Section[]> {
  const { scratch, peers, ours } = field
  const missing = field.absent.map(({ title, reason }) => ({
    ...absentLabel(title),
    failure: `not here: ${reason}`,
  }))
  const produce: Section[] = []
  const consume: Section[] = []
  const group: Section[] = []
  const isWanted = (table: Plan['tables'][number]): boolean =>
    plan.tables.length === 0 || plan.tables.includes(table)
  const latency: Section[] = []
  const memory: MemoryRow[] = []
  for (const lineBytes of plan.lineBytes) {
    const payloads = makePayloads(plan, { scratch, lineBytes })
    for (const peer of peers) {
      report(`filling ${peer.title}, ${lineBytes} B`)
      await peer.load(payloads)
    }
    for (const [kind, sections, title] of [
      ['produce', produce, 'Produce from a pipe'],
      ['consume', consume, 'Consume to a pipe'],
      ['group', group, 'Read by the only member of a new group, and commit'],
    ] as const) {
      if (!isWanted(kind)) continue
      const entries = peers.flatMap((peer) =>
        (peer[kind]?.(payloads) ?? []).map((contender) => ({ contender, isOurs: peer === ours })),
      )
      const raced = await race(
        entries.map(({ contender }) => contender),
        {
          rounds: plan.rounds,
          warmUp: !plan.quick && lineBytes === plan.lineBytes[0],
          warmBytes: plan.warmBytes,
        },
      )
      const rows = raced.map(({ contender, ...figures }, index) => ({
        ...contender,
        ...figures,
        isOurs: entries[index]?.isOurs === true,
      }))
      sections.push(
        throughputSection(`${title}, ${lineBytes} B lines`, lineBytes, [
          ...rows,
          ...missing.map((label) => ({ ...label, records: 0, rates: [], isOurs: false })),
        ]),
      )
    }
    const entries = peers.flatMap((peer) =>
      (isWanted('latency') ? peer.latency() : []).map((contender) => ({
        contender,
        isOurs: peer === ours,
      })),
    )
    const raced = await raceLatency(
      entries.map(({ contender }) => contender),
      {
        lines: plan.latencyLines,
        warmLines: plan.latencyWarmLines,
        lineBytes,
        rounds: plan.latencyRounds,
        scratch,
      },
    )
    const rows = raced.map(({ contender, ...figures }, index) => ({
      ...contender,
      ...figures,
      isOurs: entries[index]?.isOurs === true,
    }))
    if (isWanted('latency'))
      latency.push(
        latencySection(`Latency, pipe to pipe, ${lineBytes} B lines`, [
          ...rows,
          ...missing.map((label) => ({
            ...label,
            p50: [],
            p99: [],
            means: 'commands' as const,
            judged: false,
            isOurs: false,
          })),
        ]),
      )
    if (lineBytes === plan.lineBytes[0] && isWanted('memory'))
      for (const peer of peers)
        for (const contender of peer.memory(payloads))
          memory.push(await measureMemory(contender, scratch))
  }
  const startUps = peers.flatMap((peer) => (isWanted('start-up') ? [...peer.startUp()] : []))
  const own = new Set(ours.startUp().map(({ name }) => name))
  const started =
    startUps.length === 0 ? [] : raceStartUp(startUps, { rounds: plan.startUpRounds, scratch })
  const servers = peers.flatMap((peer) =>
    peer.servers().map(({ name, pid }) => ({ name, megabytes: peakMegabytes(pid) })),
  )
  return [
    ...produce,
    ...consume,
    ...group,
    ...latency,
    ...(startUps.length === 0
      ? []
      : [
          startUpSection(
            'Start-up of the command, one line',
            started.map(({ contender, ...figures }) => ({
              name: contender.name,
              isOurs: own.has(contender.name),
              ...figures,
            })),
          ),
        ]),
    ...(memory.length === 0
      ? []
      : [
          memorySection(
            `Most resident memory of a command, ${plan.megabytes} MB of ${plan.lineBytes[0]} B lines`,
            memory,
          ),
        ]),
    memorySection('Most resident memory of a server, over the whole run', servers),
  ]
}

function absentLabel(title: string): Label {
  return { name: title, durability: 'relaxed', flush: '' }
}

function makePayloads(
  plan: Plan,
  { scratch, lineBytes }: { readonly scratch: Scratch; readonly lineBytes: number },
): Payloads {
  const make = (megabytes: number): Payload => {
    const path = makePayload(scratch.directory, { megabytes, lineBytes })
    return { path, lineBytes, records: Math.round(fileBytes(path) / lineBytes) }
  }
  const made = new Map<number, Payload>()
  return {
    lineBytes,
    whole: make(plan.megabytes),
    first: (lines) => {
      // Half a line more, so that rounding does not lose the last.
      const count = Math.floor(lines)
      const payload = made.get(count) ?? make(((count + 0.5) * lineBytes) / 1e6)
      made.set(count, payload)
      return payload
    },
  }
}

function machine(): string {
  const command = ['npm run bench:peers --', ...process.argv.slice(2)]
    .filter((word) => word !== '--save')
    .join(' ')
    .replace(/ --$/, '')
  return `${new Date().toISOString().slice(0, 10)}, \`${command}\`, ${cpus().length} cores (${cpus()[0]?.model ?? 'unknown'}), ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}.`
}

await main().catch((error: unknown) => {
  report(error instanceof Error ? error.message : String(error))
  process.exitCode = 1
})
