/** A login whose secret the script itself cannot give. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connect } from '../../../src/library/index.ts'
import type { LoginOptions } from '../../../src/library/public.d.ts'
import { LoopbackBrokers } from './loopback-brokers.ts'

describe('login: a function for the secret', () => {
  let loopback: LoopbackBrokers
  beforeAll(async () => {
    loopback = await LoopbackBrokers.start()
  })
  afterAll(() => loopback.stop())

  const failure = new Error('the vault is sealed')
  const throwing = (): string => {
    throw failure
  }
  const plain = { mechanism: 'PLAIN', username: 'etl' } as const
  const scram = { mechanism: 'SCRAM-SHA-256', username: 'etl' } as const
  it.each<readonly [string, LoginOptions, string]>([
    ['throws', { ...plain, password: throwing }, 'login.password'],
    ['rejects', { ...scram, password: async () => throwing() }, 'login.password'],
    ['throws', { mechanism: 'OAUTHBEARER', token: throwing }, 'login.token'],
  ])(
    'that %s ends the contact at once, with its error as the cause (%o)',
    async (_, login, target) => {
      const startMs = performance.now()
      const error = await connect({ broker: loopback.broker, login }).catch((caught) => caught)
      expect(error).toMatchObject({ code: 'SECRET_UNAVAILABLE', target })
      expect(error.message).toContain('the function given for it failed')
      expect(error.cause).toBe(failure)
      expect(performance.now() - startMs).toBeLessThan(5000)
    },
  )

  it('that gives no text', async () => {
    const password = (() => undefined) as unknown as () => string
    const login = { mechanism: 'PLAIN', username: 'etl', password } as const
    await expect(connect({ broker: loopback.broker, login })).rejects.toMatchObject({
      code: 'SECRET_UNAVAILABLE',
      message: 'login.password: the function given for it gave no text',
    })
  })
})
