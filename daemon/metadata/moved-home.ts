/**
 * The mark of a data directory whose metadata is moved, or being moved, from its embedded home into etcd (replication.md, section 15):
 * the file `stream-moved`.
 *
 *   `cluster <name>` | `state moving|moved` | `token <id of this move>` | CRC-32C in hexadecimal of the lines before
 *
 * Invariants:
 * - It is there, durably, before the first key is written into etcd, so that no daemon changes what is being copied.
 * - Once it says `moved` the embedded home is never opened again.
 * - Unreadable means that a move has begun, never that there was none.
 */

import { StreamError } from '../../src/base/errors.ts'
import type { Disk } from '../../src/ports/disk.ts'
import { crc32c } from '../../src/record/crc32c.ts'

export const MOVED_NAME = 'stream-moved'

export interface MovedMark {
  readonly cluster: string
  readonly state: 'moving' | 'moved'
  /** Recognises what this move has written into etcd. */
  readonly token: string
}

/** @throws StreamError DATA_DIRECTORY_INVALID for one that cannot be read */
export function readMovedMark(disk: Disk, directory: string): MovedMark | undefined {
  const path = `${directory}/${MOVED_NAME}`
  const bytes = disk.readFile(path)
  if (bytes === undefined) return undefined
  const text = Buffer.from(bytes).toString('utf8')
  const match =
    /^(cluster (\S+)\nstate (moving|moved)\ntoken (\S+)\n)([0-9a-f]{8})\n$/.exec(text) ?? []
  const [, body = '', cluster = '', state, token = '', crc] = match
  if (state === undefined || crcText(body) !== crc) {
    throw new StreamError('DATA_DIRECTORY_INVALID', `${path}: cannot be read`, {
      target: path,
      hint: 'restore it from a backup: it says to which cluster the metadata was moved',
    })
  }
  return { cluster, state: state === 'moved' ? 'moved' : 'moving', token }
}

export async function writeMovedMark(
  disk: Disk,
  directory: string,
  { cluster, state, token }: MovedMark,
): Promise<void> {
  const body = `cluster ${cluster}\nstate ${state}\ntoken ${token}\n`
  await writeDurably(disk, directory, MOVED_NAME, Buffer.from(`${body}${crcText(body)}\n`))
}

/** Whole or not at all; on the medium when it resolves. */
export async function writeDurably(
  disk: Disk,
  directory: string,
  name: string,
  bytes: Uint8Array,
): Promise<void> {
  const temporary = `${directory}/${name}.tmp`
  disk.unlink(temporary)
  const file = disk.open(temporary, 'write')
  try {
    file.write(0, [bytes])
    await file.sync()
  } finally {
    file.close()
  }
  disk.rename(temporary, `${directory}/${name}`)
  await disk.syncDirectory(directory)
}

/**
 * Whether a daemon may open the directory: no single one once the move has begun, none at all before it is finished.
 * @throws StreamError DATA_DIRECTORY_INVALID
 */
export function refuseMovedHome(disk: Disk, directory: string, isOfCluster: boolean): void {
  const mark = readMovedMark(disk, directory)
  if (mark === undefined || (isOfCluster && mark.state === 'moved')) return
  const { cluster, state } = mark
  throw new StreamError(
    'DATA_DIRECTORY_INVALID',
    state === 'moved'
      ? `${directory}: belongs to cluster ${cluster} since it was adopted`
      : `${directory}: its move to cluster ${cluster} was broken off`,
    {
      target: directory,
      hint:
        state === 'moved'
          ? `start it there: stream daemon run --etcd URL --cluster ${cluster} --node-id N --listen ADDRESS`
          : `end it: stream cluster adopt --etcd URL --cluster ${cluster} --data ${directory}`,
    },
  )
}

function crcText(text: string): string {
  return crc32c(Buffer.from(text)).toString(16).padStart(8, '0')
}
