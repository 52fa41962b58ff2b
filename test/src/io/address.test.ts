import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatAddress, parseAddress } from '../../../src/io/address.ts'

describe('parseAddress', () => {
  it.each([
    ['ipc:///run/stream/daemon.sock', { kind: 'ipc', path: '/run/stream/daemon.sock' }],
    ['tcp://10.0.0.7:9192', { kind: 'tcp', host: '10.0.0.7', port: 9192 }],
    ['tcp://*:0', { kind: 'tcp', host: '*', port: 0 }],
    ['tcp://[::1]:9192', { kind: 'tcp', host: '::1', port: 9192 }],
    ['kafka://k1', { kind: 'kafka', host: 'k1', port: 9092 }],
    ['kafka://k1.example:19092', { kind: 'kafka', host: 'k1.example', port: 19092 }],
  ])('%s', (text, address) => {
    expect(parseAddress(text)).toEqual(address)
    expect(parseAddress(formatAddress(parseAddress(text)))).toEqual(address)
  })

  it.each([
    '',
    'k1:9092',
    'http://k1:9092',
    'ipc://',
    'ipc://a\0b',
    `ipc:///${'x'.repeat(104)}`,
    'tcp://',
    'tcp://host',
    'tcp://host:',
    'tcp://host:65536',
    'tcp://host:x',
    'tcp://a b:1',
    'tcp://host:1/path',
    'kafka://a:1,b:2',
  ])('refuses %j', (text) => {
    expect(() => parseAddress(text)).toThrow(expect.objectContaining({ code: 'ADDRESS_INVALID' }))
  })

  it('any text is an address or ADDRESS_INVALID', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('ipc://', 'tcp://', 'kafka://', ''),
        fc.string(),
        (scheme, rest) => {
          try {
            parseAddress(scheme + rest)
          } catch (error) {
            expect(error).toMatchObject({ code: 'ADDRESS_INVALID' })
          }
        },
      ),
    )
  })
})
