import { describe, expect, it } from 'vitest'
import { RealHashes } from '../../../src/io/real-hashes.ts'
import type { RequestInput } from '../../../src/protocol/api-table.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { DaemonWorld } from '../daemon-world.ts'

type Alteration = RequestInput<'AlterUserScramCredentials'>
type Upsertion = Alteration['upsertions'][number]

const upsertion = (change: Partial<Upsertion> = {}): Upsertion => ({
  name: 'etl',
  mechanism: 1,
  iterations: 4096,
  salt: Buffer.from('salt'),
  saltedPassword: new Uint8Array((change.mechanism ?? 1) === 1 ? 32 : 64),
  ...change,
})

async function started() {
  const w = new DaemonWorld()
  await w.start({ hashes: new RealHashes() })
  const client = w.client()
  const alter = async (body: Partial<Alteration>) => {
    const whole = { deletions: [], upsertions: [], ...body }
    const { results } = await client.call('AlterUserScramCredentials', 0, whole)
    return results.map(({ user, errorCode }) => [user, errorCode])
  }
  const describeUsers = async (...names: string[]) => {
    const users = names.length === 0 ? null : names.map((name) => ({ name }))
    const { results } = await client.call('DescribeUserScramCredentials', 0, { users })
    return results.map(({ user, errorCode, credentialInfos }) => [
      user,
      errorCode,
      ...credentialInfos.map(({ mechanism, iterations }) => `${mechanism} ${iterations}`),
    ])
  }
  return { w, alter, describeUsers }
}

describe('AlterUserScramCredentials, DescribeUserScramCredentials', () => {
  it('makes, changes and deletes users; what is told holds no key', async () => {
    const { alter, describeUsers } = await started()
    expect(
      await alter({
        upsertions: [upsertion(), upsertion({ mechanism: 2 }), upsertion({ name: 'other' })],
      }),
    ).toEqual([
      ['etl', 0],
      ['other', 0],
    ])
    expect(await describeUsers()).toEqual([
      ['etl', 0, '1 4096', '2 4096'],
      ['other', 0, '1 4096'],
    ])
    await alter({ upsertions: [upsertion({ iterations: 8192 })] })
    await alter({ deletions: [{ name: 'other', mechanism: 1 }] })
    expect(await describeUsers('etl', 'other', 'none')).toEqual([
      ['etl', 0, '1 8192', '2 4096'],
      ['other', KafkaError.RESOURCE_NOT_FOUND],
      ['none', KafkaError.RESOURCE_NOT_FOUND],
    ])
  })

  it('refuses user by user what is wrong, and writes nothing of that one', async () => {
    const { alter, describeUsers } = await started()
    const wrong = (change: Partial<Upsertion>) => upsertion({ name: 'bad', ...change })
    for (const [change, code] of [
      [{ iterations: 4095 }, KafkaError.UNACCEPTABLE_CREDENTIAL],
      [{ iterations: 16_385 }, KafkaError.UNACCEPTABLE_CREDENTIAL],
      [{ salt: new Uint8Array(0) }, KafkaError.UNACCEPTABLE_CREDENTIAL],
      [{ saltedPassword: new Uint8Array(5) }, KafkaError.UNACCEPTABLE_CREDENTIAL],
      [{ mechanism: 9 }, KafkaError.UNSUPPORTED_SASL_MECHANISM],
    ] as const) {
      expect(await alter({ upsertions: [upsertion(), wrong(change)] })).toEqual([
        ['etl', 0],
        ['bad', code],
      ])
    }
    expect(await alter({ upsertions: [upsertion({ name: '' })] })).toEqual([
      ['', KafkaError.UNACCEPTABLE_CREDENTIAL],
    ])
    expect(await alter({ upsertions: [upsertion(), upsertion()] })).toEqual([
      ['etl', KafkaError.DUPLICATE_RESOURCE],
    ])
    expect(await alter({ deletions: [{ name: 'etl', mechanism: 2 }] })).toEqual([
      ['etl', KafkaError.RESOURCE_NOT_FOUND],
    ])
    expect(await describeUsers()).toEqual([['etl', 0, '1 4096']])
    expect(await describeUsers('etl', 'etl')).toEqual([['etl', KafkaError.DUPLICATE_RESOURCE]])
  })
})
