import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { UsageError } from '../../../src/base/errors.ts'
import {
  etcdSettingsOf,
  parseEtcdEndpoints,
  readEtcdOptions,
} from '../../../src/io/etcd-options.ts'

const directory = mkdtempSync(join(tmpdir(), 'stream-etcd-options-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

function file(name: string, text: string): string {
  const path = join(directory, name)
  writeFileSync(path, text)
  return path
}

describe('parseEtcdEndpoints', () => {
  it('reads addresses, each once, with the usual port where there is none', () => {
    expect(
      parseEtcdEndpoints(
        'http://h1:2379, http://h2/,https://[::1]:443,http://h3:80,http://h1:2379',
      ),
    ).toEqual([
      { url: 'http://h1:2379', target: 'dns:h1:2379', isTls: false },
      { url: 'http://h2:2379', target: 'dns:h2:2379', isTls: false },
      { url: 'https://[::1]:443', target: 'dns:[::1]:443', isTls: true },
      { url: 'http://h3:80', target: 'dns:h3:80', isTls: false },
    ])
  })

  it.each([
    '',
    ',',
    'h1:2379',
    'ftp://h1',
    'http://',
    'http://h1/path',
    'http://h1?a=b',
    'http://h:x',
  ])('refuses %j', (text) => {
    expect(() => parseEtcdEndpoints(text)).toThrow(UsageError)
  })

  it('does not repeat a password that stands in an address', () => {
    const parse = () => parseEtcdEndpoints('http://root:s3cret@h1:2379')
    expect(parse).toThrow(/user or a password/)
    expect(parse).not.toThrow(/s3cret/)
  })
})

describe('readEtcdOptions', () => {
  const endpoints = 'https://h1:2379'

  it('takes the password from a file, else from the variable', () => {
    const passwordFile = file('password', 'from file\n')
    const read = (config: readonly (readonly [string, string])[], password?: string) =>
      readEtcdOptions(
        etcdSettingsOf(endpoints, new Map(config), { STREAM_ETCD_PASSWORD: password }),
      ).auth
    expect(
      read([
        ['stream.etcd.user', 'etl'],
        ['stream.etcd.password.file', passwordFile],
      ]),
    ).toEqual({ user: 'etl', password: 'from file', passwordFile })
    expect(read([['stream.etcd.user', 'etl']], 'from variable')).toEqual({
      user: 'etl',
      password: 'from variable',
    })
    expect(read([], 'of no use')).toBeUndefined()
  })

  it('says what is missing', () => {
    const secret = { code: 'SECRET_UNAVAILABLE', exit: 6 }
    const read = (settings: object) => () => readEtcdOptions({ endpoints, ...settings })
    expect(read({ user: 'etl' })).toThrow(expect.objectContaining(secret))
    expect(read({ user: 'etl', passwordFile: file('empty', '\n') })).toThrow(
      expect.objectContaining(secret),
    )
    expect(read({ user: 'etl', passwordFile: join(directory, 'none') })).toThrow(/no such file/)
    expect(read({ passwordFile: 'x' })).toThrow(/no user/)
    expect(read({ certificateFile: 'x' })).toThrow(/certificate and its key/)
    expect(read({ caFile: join(directory, 'none') })).toThrow(
      expect.objectContaining({ code: 'FILE_NOT_FOUND' }),
    )
    expect(read({ caFile: file('noise', 'no certificate') })).toThrow(
      expect.objectContaining({ code: 'CONFIG_INVALID' }),
    )
    expect(() => readEtcdOptions({ endpoints: 'http://h1', serverName: 'x' })).toThrow(/http:/)
  })
})
