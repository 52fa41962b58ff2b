/** What every Disk must do; run on the real disk and the simulated one. */
import { describe, expect, it } from 'vitest'
import { isStreamError } from '../../src/base/errors.ts'
import type { Disk } from '../../src/ports/disk.ts'

export interface DiskHarness {
  readonly disk: Disk
  /** A fresh, empty directory. */
  readonly directory: string
  settle<T>(promise: Promise<T>): Promise<T>
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value)
const textOf = (bytes: Uint8Array | undefined): string => new TextDecoder().decode(bytes)

export function describeDisk(name: string, make: () => DiskHarness): void {
  describe(`Disk: ${name}`, () => {
    it('writes many parts at a position, and reads them back in any cut', async () => {
      const { disk, directory, settle } = make()
      const file = disk.open(`${directory}/a`, 'write')
      file.write(0, [text('hello '), text(''), text('world')])
      file.write(11, [text('!')])
      const target = new Uint8Array(20)
      expect(file.read(0, target)).toBe(12)
      expect(textOf(target.subarray(0, 12))).toBe('hello world!')
      expect(await settle(file.readAsync(6, target))).toBe(6)
      expect(textOf(target.subarray(0, 6))).toBe('world!')
      expect(file.read(12, target)).toBe(0)
      expect(file.read(100, target)).toBe(0)
      expect(file.sizeBytes()).toBe(12)
      file.close()
      file.close()
    })

    it('takes more parts in one write than one system call does', () => {
      const { disk, directory } = make()
      const file = disk.open(`${directory}/many`, 'write')
      const parts = Array.from({ length: 3000 }, (_, index) => text(`${index},`))
      file.write(0, parts)
      const expected = parts.map(textOf).join('')
      expect(file.sizeBytes()).toBe(expected.length)
      expect(textOf(disk.readFile(`${directory}/many`))).toBe(expected)
      file.close()
    })

    it('a gap reads as zeros, truncate cuts and grows', () => {
      const { disk, directory } = make()
      const file = disk.open(`${directory}/gap`, 'write')
      file.write(4, [text('x')])
      expect([...disk.readFile(`${directory}/gap`)!]).toEqual([0, 0, 0, 0, 120])
      file.truncate(2)
      expect(file.sizeBytes()).toBe(2)
      file.truncate(6)
      const target = new Uint8Array(8)
      expect(file.read(0, target)).toBe(6)
      expect(target.subarray(0, 6)).toEqual(new Uint8Array(6))
      file.close()
    })

    it('open for writing keeps what is there', () => {
      const { disk, directory } = make()
      const first = disk.open(`${directory}/kept`, 'write')
      first.write(0, [text('old')])
      first.close()
      const second = disk.open(`${directory}/kept`, 'write')
      expect(second.sizeBytes()).toBe(3)
      second.close()
    })

    it('what does not exist is undefined, empty, fine, or FILE_NOT_FOUND', () => {
      const { disk, directory } = make()
      expect(disk.readFile(`${directory}/none`)).toBeUndefined()
      expect(disk.stat(`${directory}/none`)).toBeUndefined()
      expect(disk.list(`${directory}/none`)).toEqual([])
      disk.unlink(`${directory}/none`)
      disk.removeTree(`${directory}/none`)
      expect(codeOf(() => disk.open(`${directory}/none`, 'read'))).toBe('FILE_NOT_FOUND')
      expect(codeOf(() => disk.rename(`${directory}/none`, `${directory}/x`))).toBe(
        'FILE_NOT_FOUND',
      )
      expect(codeOf(() => disk.open(`${directory}/none/x`, 'write'))).toBe('FILE_NOT_FOUND')
    })

    it('directories are made with their parents, listed in order, removed whole', () => {
      const { disk, directory } = make()
      disk.makeDirectory(`${directory}/one/two`)
      disk.makeDirectory(`${directory}/one/two`)
      for (const name of ['b', 'a', 'c']) disk.open(`${directory}/one/${name}`, 'write').close()
      expect(disk.list(`${directory}/one`)).toEqual(['a', 'b', 'c', 'two'])
      expect(disk.stat(`${directory}/one`)?.isDirectory).toBe(true)
      expect(disk.stat(`${directory}/one/a`)).toMatchObject({ sizeBytes: 0, isDirectory: false })
      disk.removeTree(`${directory}/one`)
      expect(disk.list(directory)).toEqual([])
    })

    it('rename replaces; an open file keeps its content under its new name', () => {
      const { disk, directory } = make()
      const file = disk.open(`${directory}/new`, 'write')
      file.write(0, [text('new')])
      disk.open(`${directory}/old`, 'write').close()
      disk.rename(`${directory}/new`, `${directory}/old`)
      expect(disk.list(directory)).toEqual(['old'])
      file.write(3, [text('er')])
      expect(textOf(disk.readFile(`${directory}/old`))).toBe('newer')
      file.close()
    })

    it('a file keeps its id under another name, and another file in its place has another', () => {
      const { disk, directory } = make()
      const file = disk.open(`${directory}/first`, 'write')
      const id = file.fileId()
      disk.rename(`${directory}/first`, `${directory}/moved`)
      const moved = disk.open(`${directory}/moved`, 'read')
      expect(moved.fileId()).toBe(id)
      const other = disk.open(`${directory}/other`, 'write')
      expect(other.fileId()).not.toBe(id)
      disk.rename(`${directory}/other`, `${directory}/moved`)
      const swapped = disk.open(`${directory}/moved`, 'read')
      expect(swapped.fileId()).toBe(other.fileId())
      for (const opened of [file, moved, other, swapped]) opened.close()
    })

    it('an unlinked file can be read and written by who has it open', () => {
      const { disk, directory } = make()
      const file = disk.open(`${directory}/gone`, 'write')
      file.write(0, [text('still')])
      disk.unlink(`${directory}/gone`)
      expect(disk.stat(`${directory}/gone`)).toBeUndefined()
      const target = new Uint8Array(5)
      expect(file.read(0, target)).toBe(5)
      file.close()
    })

    it('syncs resolve, of files and directories; closing under a sync is safe', async () => {
      const { disk, directory, settle } = make()
      const file = disk.open(`${directory}/synced`, 'write')
      file.write(0, [text('x')])
      await settle(file.dataSync())
      await settle(file.sync())
      await settle(disk.syncDirectory(directory))
      const last = file.dataSync()
      file.close()
      await settle(last)
    })

    it('space is known', () => {
      const { disk, directory } = make()
      const { freeBytes, totalBytes } = disk.space(directory)
      expect(freeBytes).toBeGreaterThan(0)
      expect(totalBytes).toBeGreaterThanOrEqual(freeBytes)
    })

    it('a lock is exclusive, until it is released', () => {
      const { disk, directory } = make()
      const path = `${directory}/.lock`
      const lock = disk.lock(path)
      expect(codeOf(() => disk.lock(path))).toBe('DIRECTORY_LOCKED')
      lock.release()
      lock.release()
      disk.lock(path).release()
    })
  })
}

function codeOf(call: () => unknown): string | undefined {
  try {
    call()
  } catch (error) {
    if (isStreamError(error)) return error.code
    throw error
  }
  return undefined
}
