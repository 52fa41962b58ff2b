/** What becomes of a link in a simulated run (link-run.ts): its promotion, and the way back. */
import type { FailbackTopic } from '../../src/client/link-admin.ts'
import { HEAL_MS, LINK, type LinkWorld, PARTITIONS, TOPIC } from './link-world.ts'
import type { SimBroker } from './sim-broker.ts'
import { produceLines } from './sim-clients.ts'
import type { SimRandom } from './sim-random.ts'

/** @throws Error when it takes too long */
export async function promote(at: LinkWorld, brokers: readonly SimBroker[]): Promise<void> {
  const deadlineMs = at.world.now + HEAL_MS
  await at.as(brokers, ({ links }) => links.alter(LINK, 'promote', undefined))
  for (;;) {
    const link = await at.as(brokers, ({ links }) => links.describeOne(LINK))
    const rows = link.topics.flatMap(({ partitions }) => partitions)
    const count = link.topics.reduce((sum, { partitionCount }) => sum + partitionCount, 0)
    const isOver = link.topics.every(({ state }) => state === 'promoted')
    if (isOver && rows.length === count && rows.every(({ state }) => state === 'promoted')) return
    if (at.world.now > deadlineMs) throw new Error(`not promoted: ${statesOf(rows)}`)
    await at.pause(500)
  }
}

/** Where the records of the source end at the side that was promoted. */
export async function pointsOf(
  at: LinkWorld,
  promoted: readonly SimBroker[],
): Promise<FailbackTopic> {
  return at.as(promoted, async ({ links, admin }) => {
    const deadlineMs = at.world.now + HEAL_MS
    const look = async () => {
      const link = await links.describeOne(LINK)
      return link.topics.find(({ name }) => name === TOPIC)
    }
    let topic = await look()
    while (topic?.partitions.length !== PARTITIONS) {
      if (at.world.now > deadlineMs) throw new Error('not all of it is led')
      await at.pause(500)
      topic = await look()
    }
    const [own] = await admin.describeTopics([TOPIC])
    return {
      topic: TOPIC,
      topicId: topic.sourceTopicId,
      sourceTopicId: own?.topicId ?? '',
      cutAt: topic.partitions.map(({ promotedOffset }) => promotedOffset),
    }
  })
}

/** `old` follows `promoted`, after both were written to; the brokers of the target die meanwhile. */
export async function wayBack(
  at: LinkWorld,
  chaos: SimRandom,
  old: readonly SimBroker[],
  promoted: readonly SimBroker[],
): Promise<void> {
  const from = old === at.targets ? 'back' : 'there'
  const write = async (brokers: readonly SimBroker[], name: string): Promise<void> => {
    const options = { records: 80, partitions: PARTITIONS }
    await at.world.settle(produceLines(at.clients(brokers, name), name, [], options))
  }
  await write(old, `${from}1`)
  await write(promoted, `${from}2`)
  const failback = [await at.world.settle(pointsOf(at, promoted))]
  const source = promoted.map(({ address }) => address)
  const order = { name: LINK, source, topics: [TOPIC], rate: undefined, failback }
  const sync = { syncConfigs: false, syncGroups: false }
  await at.world.settle(at.as(old, ({ links }) => links.create({ ...order, ...sync }, 60_000)))
  let isOver = false
  const resuming = resume(at, old).finally(() => {
    isOver = true
  })
  await at.trouble(chaos, { steps: 5, victims: () => at.targets, isOver: () => isOver })
  await at.world.settle(resuming)
  const parts = Array.from({ length: PARTITIONS }, (_, partition) => partition)
  const isLevel = (): boolean =>
    parts.every((partition) => {
      const theirs = at.leader(promoted, partition)
      const ours = at.leader(old, partition)
      if (theirs === undefined || ours === undefined) return false
      return ours.log.logEndOffset === theirs.lastStableOffset
    })
  await at.until(isLevel, `the old side (${from}) is level again`)
  for (const partition of parts) await at.compare(promoted, old, partition)
}

/** Once all of it is fenced: from here on it is cut. Resolves when all of it follows. */
async function resume(at: LinkWorld, old: readonly SimBroker[]): Promise<void> {
  const waitFor = async (states: readonly string[]): Promise<void> => {
    for (const deadlineMs = at.world.now + HEAL_MS; ; ) {
      const link = await at.as(old, ({ links }) => links.describeOne(LINK))
      const rows = link.topics.find(({ name }) => name === TOPIC)?.partitions ?? []
      if (rows.length === PARTITIONS && rows.every(({ state }) => states.includes(state))) return
      if (at.world.now > deadlineMs) throw new Error(`not ${states}: ${statesOf(rows)}`)
      await at.pause(300)
    }
  }
  await waitFor(['fenced'])
  await at.as(old, ({ links }) => links.alter(LINK, 'resume', undefined))
  await waitFor(['following', 'retrying'])
}

function statesOf(
  rows: readonly { readonly state: string; readonly error: string | null }[],
): string {
  return JSON.stringify(rows.map(({ state, error }) => [state, error]))
}
