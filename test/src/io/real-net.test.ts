import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { RealNet } from '../../../src/io/real-net.ts'
import { describeNet } from '../../ports/net-conformance.ts'

const root = mkdtempSync(join(tmpdir(), 'stream-net-'))
let count = 0

afterAll(() => rmSync(root, { recursive: true, force: true }))

/** Real links need the event loop's turn between two looks. */
async function settle<T>(promise: Promise<T>): Promise<T> {
  const value = await promise
  await new Promise((resolve) => setImmediate(resolve))
  return value
}

function socketPath(): string {
  count += 1
  return `ipc://${join(root, 'sockets', `s${count}`)}`
}

describeNet('ipc://', { closable: false }, () => ({
  net: new RealNet(),
  address: socketPath,
  deadAddress: () => `ipc://${join(root, 'nothing')}`,
  settle,
}))

describeNet('tcp://', { closable: false }, () => ({
  net: new RealNet(),
  address: () => 'tcp://127.0.0.1:0',
  deadAddress: () => 'tcp://127.0.0.1:1',
  settle,
}))

describeNet('kafka://', { closable: true }, () => ({
  net: new RealNet(),
  address: () => 'kafka://127.0.0.1:0',
  deadAddress: () => 'kafka://127.0.0.1:1',
  settle,
}))
