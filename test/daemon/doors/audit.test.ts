/** What the operator reads about who has changed what. */
import { describe, expect, it } from 'vitest'
import { RealHashes } from '../../../src/io/real-hashes.ts'
import { RealRandom } from '../../../src/io/real-random.ts'
import { scramKinds } from '../../../src/protocol/scram.ts'
import { batchOf } from '../batches.ts'
import { DaemonWorld, KAFKA, ZMQ } from '../daemon-world.ts'

const hashes = new RealHashes()
const random = new RealRandom()

function topic(name: string) {
  return { name, numPartitions: 1, replicationFactor: 1, assignments: [], configs: [] }
}

async function started() {
  const w = new DaemonWorld()
  await w.start({ hashes })
  const heard = (): string[] =>
    w.said.splice(0).filter((line) => line.startsWith('info a client has'))
  return { w, heard, client: w.client(KAFKA) }
}

describe('audit', () => {
  it('names who has made, changed and deleted topics, and which', async () => {
    const { heard, client } = await started()
    await client.call('CreateTopics', 5, { topics: [topic('a'), topic('b'), topic('not/valid')] })
    const made = heard()
    expect(made).toHaveLength(1)
    expect(made[0]).toMatch(/^info a client has made topics \{"names":"a, b",.*"peer":".+"\}$/)
    await client.call('CreatePartitions', 2, {
      topics: [{ name: 'a', count: 3, assignments: null }],
      timeoutMs: 1000,
      validateOnly: false,
    })
    expect(heard()).toEqual([expect.stringContaining('added partitions {"names":"a"')])
    const resources = [
      {
        resourceType: 2,
        resourceName: 'a',
        configs: [{ name: 'retention.ms', configOperation: 0, value: '1000' }],
      },
    ]
    await client.call('IncrementalAlterConfigs', 1, { resources, validateOnly: false })
    expect(heard()).toEqual([expect.stringContaining('changed settings {"names":"a"')])
    await client.produce('b', batchOf(['x', 'y']))
    await client.call('DeleteRecords', 1, {
      topics: [{ name: 'b', partitions: [{ partitionIndex: 0, offset: 1 }] }],
      timeoutMs: 1000,
    })
    expect(heard()).toEqual([expect.stringContaining('deleted records {"names":"b-0 below 1"')])
    await client.call('DeleteTopics', 3, { topicNames: ['a', 'none'], timeoutMs: 1000 })
    expect(heard()).toEqual([expect.stringContaining('deleted topics {"names":"a"')])
  })

  it('is silent about what changes nothing, and short about many', async () => {
    const { heard, client } = await started()
    const topics = Array.from({ length: 14 }, (_, at) => topic(`t${at}`))
    await client.call('CreateTopics', 5, { topics, validateOnly: true })
    await client.call('DeleteTopics', 3, { topicNames: ['none'], timeoutMs: 1000 })
    await client.call('DeleteGroups', 1, { groupsNames: ['none'] })
    await client.call('Metadata', 9, { topics: null })
    expect(heard()).toEqual([])
    await client.call('CreateTopics', 5, { topics })
    expect(heard()[0]).toContain('t8, t9 and 4 more"')
  })

  it('tells users that are set from those that are deleted, and nothing of a password', async () => {
    const { w, heard } = await started()
    const client = w.client(ZMQ)
    const salt = random.bytes(24)
    const saltedPassword = random.bytes(scramKinds['SCRAM-SHA-256'].hashBytes)
    await client.call('AlterUserScramCredentials', 0, {
      deletions: [],
      upsertions: [{ name: 'etl', mechanism: 1, iterations: 4096, salt, saltedPassword }],
    })
    expect(heard()).toEqual([expect.stringContaining('changed users {"names":"etl"')])
    await client.call('AlterUserScramCredentials', 0, {
      deletions: [{ name: 'etl', mechanism: 1 }],
      upsertions: [],
    })
    expect(heard()).toEqual([expect.stringContaining('changed users {"names":"etl (deleted)"')])
  })
})
