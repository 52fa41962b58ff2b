/** A batch on one replica's disk becomes another one, whose checksum is right: what a bad page or a fault leaves behind. */
import { baseOffsetAt, batchBytesAt, stampCrc } from '../../src/record/batch-layout.ts'
import type { SimDisk } from '../sim/sim-disk.ts'

/** @returns what stands there now; `directory` holds the segments, `offset` is the base offset of the batch */
export function replaceBatch(disk: SimDisk, directory: string, offset: number): Uint8Array {
  for (const name of disk.list(directory).filter((each) => each.endsWith('.log'))) {
    const path = `${directory}/${name}`
    const bytes = disk.readFile(path) ?? new Uint8Array(0)
    for (let at = 0; at < bytes.length; at += batchBytesAt(bytes, at)) {
      if (baseOffsetAt(bytes, at) !== offset) continue
      const batch = Uint8Array.from(bytes.subarray(at, at + batchBytesAt(bytes, at)))
      // The last character of the last value; behind it stands the number of headers.
      const place = batch.length - 2
      batch[place] = (batch[place] as number) ^ 1
      stampCrc(batch, 0)
      const file = disk.open(path, 'write')
      file.write(at, [batch])
      file.close()
      return batch
    }
  }
  throw new Error(`${directory} holds no batch at offset ${offset}`)
}
