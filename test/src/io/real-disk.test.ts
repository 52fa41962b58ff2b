import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { RealDisk } from '../../../src/io/real-disk.ts'

const root = mkdtempSync(join(tmpdir(), 'stream-disk-'))
const diskModule = join(import.meta.dirname, '../../../src/io/real-disk.ts')
const disk = new RealDisk()
const isRoot = process.getuid?.() === 0

afterAll(() => rmSync(root, { recursive: true, force: true }))

/** Runs `use` on a tmpfs of 1 MiB; needs root. */
function onSmallDisk(use: (directory: string) => void): void {
  const directory = mkdtempSync(join(root, 'small'))
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', directory])
  expect(mounted.status).toBe(0)
  try {
    use(directory)
  } finally {
    spawnSync('umount', [directory])
  }
}

describe('RealDisk', () => {
  it('P8: a lock held by another process is refused, and free when that process is killed', async () => {
    const path = join(root, '.lock')
    const code = `import { RealDisk } from ${JSON.stringify(diskModule)}
      new RealDisk().lock(${JSON.stringify(path)}); console.log('held'); setInterval(() => undefined, 1000)`
    const child = spawn(process.execPath, ['--input-type=module', '-e', code])
    await new Promise((resolve) => child.stdout.once('data', resolve))
    expect(() => disk.lock(path)).toThrow(expect.objectContaining({ code: 'DIRECTORY_LOCKED' }))
    child.kill('SIGKILL')
    await new Promise((resolve) => child.once('exit', resolve))
    disk.lock(path).release()
  })

  it.skipIf(!isRoot)('D1: a full disk is DISK_FULL, and what was there before stays', () => {
    onSmallDisk((directory) => {
      const file = disk.open(join(directory, 'file'), 'write')
      file.write(0, [new Uint8Array(500_000).fill(1)])
      expect(() => file.write(500_000, [new Uint8Array(10), new Uint8Array(800_000)])).toThrow(
        expect.objectContaining({ code: 'DISK_FULL' }),
      )
      file.truncate(500_000)
      const target = new Uint8Array(500_000)
      expect(file.read(0, target)).toBe(500_000)
      expect(target.every((byte) => byte === 1)).toBe(true)
      file.write(500_000, [new Uint8Array(100)])
      file.close()
      expect(disk.space(directory).totalBytes).toBe(1024 * 1024)
    })
  })

  it.skipIf(isRoot)('D9: a directory without permission is PERMISSION_DENIED', () => {
    const directory = join(root, 'closed')
    mkdirSync(directory)
    chmodSync(directory, 0o000)
    expect(() => disk.open(join(directory, 'x'), 'write')).toThrow(
      expect.objectContaining({ code: 'PERMISSION_DENIED' }),
    )
    chmodSync(directory, 0o700)
  })

  it('a closed file is CLOSED, never another file with the same number', () => {
    const file = disk.open(join(root, 'closed-file'), 'write')
    file.close()
    expect(() => file.write(0, [new Uint8Array(1)])).toThrow(
      expect.objectContaining({ code: 'CLOSED' }),
    )
    expect(() => file.sizeBytes()).toThrow(expect.objectContaining({ code: 'CLOSED' }))
  })
})
