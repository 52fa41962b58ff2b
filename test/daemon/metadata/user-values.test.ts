import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeUser, encodeUser, findUserNameDefect } from '../../../daemon/metadata/user-values.ts'

const bytes = fc.uint8Array({ minLength: 1, maxLength: 64 }).map((each) => Buffer.from(each))
const credential = fc.record({
  salt: bytes,
  iterations: fc.integer({ min: 1, max: 16_384 }),
  storedKey: bytes,
  serverKey: bytes,
})
const user = fc.record(
  { 'SCRAM-SHA-256': credential, 'SCRAM-SHA-512': credential },
  { requiredKeys: [] },
)

describe('users in the metadata store', () => {
  it('come back as they were', () => {
    fc.assert(
      fc.property(user, (value) => {
        expect(decodeUser('k', encodeUser(value))).toEqual(value)
      }),
    )
  })

  it('damaged bytes are refused without being told', () => {
    fc.assert(
      fc.property(user, fc.nat(), fc.nat(255), (value, place, byte) => {
        const encoded = Buffer.from(encodeUser(value))
        encoded[place % encoded.length] = byte
        try {
          decodeUser('k', encoded)
        } catch (error) {
          expect(error).toMatchObject({
            code: 'STORE_DAMAGED',
            message: 'metadata k: no credentials of a user',
          })
        }
      }),
    )
  })

  it('leaves out mechanisms of a later version', () => {
    expect(decodeUser('k', Buffer.from('{"SCRAM-SHA-3":{"x":1}}'))).toEqual({})
  })

  it('names', () => {
    for (const name of ['a', 'CN=etl,O=x', 'a/b', 'ä'.repeat(100)]) {
      expect(findUserNameDefect(name)).toBeUndefined()
    }
    for (const name of ['', 'a\nb', 'a\0', 'ä'.repeat(101)]) {
      expect(findUserNameDefect(name)).toBeDefined()
    }
  })
})
