import { describe, expect, it } from 'vitest'
import { assertProtected } from '../../../daemon/doors/address-rule.ts'

const withKeys = { 'stream.curve.key.file': '/k' }
const check = (address: string, config: Record<string, string> = {}): void =>
  assertProtected(['ipc:///s', address], new Map(Object.entries(config)))

describe('assertProtected', () => {
  it('lets what only this host reaches be in clear text', () => {
    for (const host of ['127.0.0.1', '127.8.9.1', 'localhost', '[::1]', '[::ffff:127.0.0.1]']) {
      expect(() => check(`tcp://${host}:7000`)).not.toThrow()
      expect(() => check(`kafka://${host}:9092`)).not.toThrow()
    }
    expect(() => check('line:///l')).not.toThrow()
  })

  it('asks for keys for a tcp:// that other hosts reach', () => {
    for (const host of [
      '0.0.0.0',
      '*',
      '10.0.0.7',
      '[::]',
      'broker1',
      'localhost.example',
      '1270.0.0.1',
    ]) {
      expect(() => check(`tcp://${host}:7000`)).toThrow(
        expect.objectContaining({
          code: 'CONFIG_INVALID',
          hint: expect.stringContaining('stream.curve.key.file=FILE'),
        }),
      )
      expect(() => check(`tcp://${host}:7000`, withKeys)).not.toThrow()
    }
  })

  it('TLS or logins protect kafka://, but no password may come in clear text', () => {
    const address = 'kafka://0.0.0.0:9092'
    const logins = (mechanisms: string) => ({ 'sasl.enabled.mechanisms': mechanisms })
    const tls = { 'stream.kafka.tls.certificate.file': '/c.pem' }
    for (const config of [tls, logins('SCRAM-SHA-512'), { ...tls, ...logins('PLAIN') }]) {
      expect(() => check(address, config)).not.toThrow()
    }
    expect(() => check(address, logins('SCRAM-SHA-512, PLAIN'))).toThrow('passwords in clear text')
    expect(() => check('kafka://127.0.0.1:1', logins('PLAIN'))).not.toThrow()
    expect(() => check('tcp://0.0.0.0:7000', tls)).toThrow('no keys are set')
  })

  it('keys are no protection for kafka://; in so many words all is allowed', () => {
    expect(() => check('kafka://0.0.0.0:9092', withKeys)).toThrow('in clear text')
    const allowed = { 'stream.allow.plaintext': 'true' }
    expect(() => check('kafka://0.0.0.0:9092', allowed)).not.toThrow()
    expect(() => check('tcp://0.0.0.0:7000', allowed)).not.toThrow()
    expect(() => check('tcp://0.0.0.0:7000', { 'stream.allow.plaintext': 'false' })).toThrow()
  })
})
