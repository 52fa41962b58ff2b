/** The bundle that a daemon of a cluster loads: packed, gRPC must do what it does from its packages. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { type GrpcModule, loadEtcdMethods } from '../../src/io/etcd-schema.ts'
import { repository } from '../support/program.ts'

const require = createRequire(import.meta.url)

describe('dist/grpc.cjs', () => {
  it('keeps all digits of 64-bit numbers', () => {
    const grpc = require(join(repository, 'dist/grpc.cjs')) as GrpcModule
    const { leaseKeepAlive } = loadEtcdMethods(grpc)
    const id = '7587881235937042179'
    const bytes = leaseKeepAlive.requestSerialize({ ID: id })
    expect(bytes.toString('hex')).toBe('0883be848f82b9e4a669')
    // Of an answer the id is field 2.
    const answer = Buffer.concat([Buffer.from([0x10]), bytes.subarray(1)])
    expect(leaseKeepAlive.responseDeserialize(answer)).toEqual({ ID: id })
  })

  it('is no part of the daemon, which starts without it', () => {
    const daemon = readFileSync(join(repository, 'dist/daemon.cjs'), 'latin1')
    expect(daemon).not.toContain('@js-sdsl')
    expect(daemon).not.toContain('protobuf')
  })
})
