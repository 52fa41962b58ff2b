/**
 * A host's disk: ext4 in a file, mounted over a loop device, the file on a tmpfs of its own. What it can be made to do:
 *
 * | fault | how | what a program sees |
 * | --- | --- | --- |
 * | full | a file takes all that is free in the ext4 | ENOSPC from writes |
 * | failing | a file takes all that is free in the tmpfs: blocks that the image does not have yet cannot be written | EIO from fsync; the next fsync of the same descriptor may succeed |
 * | power cut | ext4 is shut down by its own ioctl without flushing its journal, then mounted again | everything that was not synced is gone; with the machine goes the process, so its owner kills it |
 *
 * The power cut is one moment for the whole file system. The loop device drops and reorders nothing that it had accepted, which
 * is kinder than some disks are: torn and reordered sectors are the simulator's part (test/sim/sim-disk.ts).
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { must, run, textOf } from './namespaces.ts'

const PREFIX = 'stream-netns-'
const MEBIBYTE = 1 << 20
/** EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH (linux/ext4.h). */
const SHUTDOWN =
  'open(D, "<", $ARGV[0]) or die; $f = pack("L", 2); ioctl(D, 0x8004587d, $f) or die "ioctl: $!"'

/** Why such disks cannot be had here; undefined: they can. */
export function noLoopDisks(): string | undefined {
  for (const program of ['mkfs.ext4', 'dumpe2fs', 'debugfs', 'losetup', 'fallocate', 'perl']) {
    if (run(['sh', '-c', `command -v ${program}`]) !== '') return `${program} is not installed`
  }
  const directory = scratchDirectory()
  let disk: LoopDisk | undefined
  try {
    disk = new LoopDisk(directory, 'try', { sizeMebibytes: 16 })
    disk.powerCut()
    disk.mount()
    return undefined
  } catch (error) {
    return `no file system over a loop device here: ${String(error)}`
  } finally {
    disk?.remove()
    removeScratch(directory)
  }
}

/** A directory of this process; `removeScratch` takes it away with all that is mounted in it. */
export function scratchDirectory(): string {
  sweepScratch()
  return mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-`))
}

export function removeScratch(directory: string): void {
  for (const mount of mountsUnder(directory)) must(['umount', '-l', mount])
  rmSync(directory, { recursive: true, force: true })
}

export class LoopDisk {
  /** Where it is mounted. */
  readonly path: string
  readonly #store: string
  /** The file that holds the file system. */
  readonly image: string
  readonly #filler: string
  #isMounted = false

  constructor(directory: string, name: string, { sizeMebibytes }: { sizeMebibytes: number }) {
    this.path = join(directory, `${name}-disk`)
    this.#store = join(directory, `${name}-store`)
    this.image = join(this.#store, 'image')
    this.#filler = join(this.#store, 'filler')
    mkdirSync(this.path)
    mkdirSync(this.#store)
    const size = `size=${sizeMebibytes + 16}m`
    must(['mount', '-t', 'tmpfs', '-o', size, PREFIX, this.#store])
    must(['truncate', '-s', `${sizeMebibytes}M`, this.image])
    must(['mkfs.ext4', '-q', '-F', '-m', '0', '-E', 'nodiscard', this.image])
    this.#takeRoomForMetadata()
    this.mount()
  }

  /**
   * What ext4 needs for itself has its room in the tmpfs now, so that a full one harms data alone: mkfs leaves holes where there
   * are only zeros, whatever it is told, and an inode that could not be written is a directory lost.
   */
  #takeRoomForMetadata(): void {
    const layout = textOf(['dumpe2fs', this.image])
    const blockBytes = Number(/^Block size: +(\d+)$/m.exec(layout)?.[1])
    const places = / (?:bitmap|table|superblock|descriptors|blocks) at (\d+)(?:-(\d+))?/g
    const extents = /\(\d+(?:-\d+)?\):(\d+)(?:-(\d+))?/g
    const journal = textOf(['debugfs', '-R', 'stat <8>', this.image])
    const ranges = [...layout.matchAll(places), ...journal.matchAll(extents)]
    if (ranges.length < 4) throw new Error(`no places of metadata in: ${layout}${journal}`)
    for (const [, first = '', last = first] of ranges) {
      const start = Number(first) * blockBytes
      const bytes = (Number(last) - Number(first) + 1) * blockBytes
      must(['fallocate', '-o', String(start), '-l', String(bytes), this.image])
    }
  }

  mount(): void {
    if (this.#isMounted) return
    must(['mount', '-o', 'loop,nodiscard', this.image, this.path])
    this.#isMounted = true
  }

  /** Nothing may have a file open on it. */
  unmount(): void {
    if (!this.#isMounted) return
    let complaint = ''
    // A killed process lets go of its files a moment after its end was seen.
    for (let attempt = 0; attempt < 50; attempt++) {
      complaint = run(['umount', this.path])
      if (complaint === '') break
      run(['sleep', '0.05'])
    }
    if (complaint !== '') throw new Error(complaint)
    this.#isMounted = false
  }

  /**
   * All that was not synced is gone, at once; every call on the file system fails until `mount` after `unmount`. An fdatasync
   * that is under way may end as if it had succeeded (ext4 of Linux 6.18, some milliseconds long): who must not tell anybody of
   * that stands still before (freeze.ts).
   */
  cutPower(): void {
    must(['perl', '-e', SHUTDOWN, this.path])
  }

  /** With nothing running on it: `cutPower` and `unmount`. */
  powerCut(): void {
    this.cutPower()
    this.unmount()
  }

  /** No space is left in the file system. */
  fill(): void {
    // What fallocate refuses as a whole it may still give in smaller parts.
    for (const [index, bytes] of [64 * MEBIBYTE, 8 * MEBIBYTE, MEBIBYTE, 65536, 4096].entries()) {
      for (let part = 0; part < 64; part++) {
        const path = join(this.path, `filler-${index}-${part}`)
        if (run(['fallocate', '-l', String(bytes), path]) !== '') break
      }
    }
  }

  free(): void {
    for (const name of readdirSync(this.path)) {
      if (name.startsWith('filler-')) rmSync(join(this.path, name), { force: true })
    }
  }

  /** From now on a sync of new data fails with EIO. */
  failSyncs(): void {
    run(['dd', 'if=/dev/zero', `of=${this.#filler}`, 'bs=64k'])
  }

  mendSyncs(): void {
    rmSync(this.#filler, { force: true })
  }

  remove(): void {
    for (const path of [this.path, this.#store]) run(['umount', '-l', path])
    this.#isMounted = false
  }
}

/** Deepest first. */
function mountsUnder(directory: string): string[] {
  return readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((path) => path.startsWith(`${directory}/`))
    .reverse()
}

/** Removes what runs that are no more have left behind. */
function sweepScratch(): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1]
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) removeScratch(join(tmpdir(), name))
  }
}
