/** A data directory with a log of many segments, transactions and two leader epochs; and what a test does to it. */

import type { PartitionLog } from '../../../daemon/log/partition-log.ts'
import { offlineLogs } from '../../../daemon/offline/offline-logs.ts'
import type {
  CheckSummary,
  DumpRequest,
  OfflineDamage,
  OfflineFinding,
} from '../../../src/ports/offline.ts'
import { batchBytesAt } from '../../../src/record/batch-layout.ts'
import { buildControlBatch } from '../../../src/record/control-batch.ts'
import { batchOf, type ReadRecord, recordsOf } from '../batches.ts'
import { append, LogWorld, PATH, values } from '../log/log-world.ts'

export const config = { segmentBytes: 600, indexIntervalBytes: 150 }

export interface Dumped {
  readonly records: readonly ReadRecord[]
  readonly states: readonly string[]
  readonly damage: readonly OfflineDamage[]
  readonly heldBackFrom: number | undefined
}

export class OfflineWorld extends LogWorld {
  /** Ended cleanly, unless the test goes on with the log. */
  async filled(): Promise<PartitionLog> {
    const log = await this.log(config)
    for (let index = 0; index < 12; index += 1) append(log, values(index * 3, 3, 20))
    this.send(log, 7, 0)
    append(log, values(37, 3, 20))
    this.end(log, 7, 'abort')
    this.send(log, 7, 1)
    this.end(log, 7, 'commit')
    for (let index = 14; index < 24; index += 1) append(log, values(index * 3, 3, 20), 1)
    await this.settle(log.flush())
    await this.run(200)
    return log
  }

  send(log: PartitionLog, producerId: number, baseSequence: number, leaderEpoch = 0): void {
    const options = { producerId, producerEpoch: 0, baseSequence, isTransactional: true }
    log.append([batchOf([`p${producerId}:${baseSequence}`], options)], { leaderEpoch })
  }

  end(log: PartitionLog, producerId: number, type: 'commit' | 'abort'): void {
    const marker = { type, producerId, producerEpoch: 0, coordinatorEpoch: 1, timestampMs: 1 }
    log.append([buildControlBatch(marker)], { leaderEpoch: 0 })
  }

  get offline() {
    return offlineLogs(this.disk, (path) => path)
  }

  async check(): Promise<OfflineFinding[]> {
    return (await this.checked('check')).findings
  }

  async repair(): Promise<OfflineFinding[]> {
    return (await this.checked('repair')).findings
  }

  async checked(
    how: 'check' | 'repair',
  ): Promise<{ readonly findings: OfflineFinding[]; readonly summary: CheckSummary }> {
    const findings: OfflineFinding[] = []
    const summary = await this.settle(
      this.offline[how](PATH, (finding) => {
        findings.push(finding)
      }),
    )
    return { findings, summary }
  }

  async dump(path = `${PATH}/t-0`, request: Partial<DumpRequest> = {}): Promise<Dumped> {
    const records: ReadRecord[] = []
    const states: string[] = []
    const damage: OfflineDamage[] = []
    const isUncommitted = request.isUncommitted ?? false
    const { heldBackFrom } = await this.settle(
      this.offline.dump(
        { path, from: () => undefined, until: () => undefined, isUncommitted, ...request },
        {
          onBatch: ({ bytes, at, state, fromOffset, untilOffset }) => {
            states.push(state)
            if (state !== 'ok' && (state === 'control' || !isUncommitted)) return
            for (const record of recordsOf(bytes.slice(at, at + batchBytesAt(bytes, at)))) {
              const { offset } = record
              if (offset >= fromOffset && offset < untilOffset) records.push(record)
            }
          },
          onDamage: (each) => {
            damage.push(each)
          },
        },
      ),
    )
    return { records, states, damage, heldBackFrom }
  }

  /** Everything in the directory, path by path. */
  image(): Map<string, string> {
    return new Map(
      this.disk
        .files()
        .map(({ path }) => [path, Buffer.from(this.disk.readFile(path) ?? []).toString('latin1')]),
    )
  }

  /** Writes an image back: another test begins where this one did. */
  restore(image: ReadonlyMap<string, string>): void {
    for (const { path } of this.disk.files()) if (!image.has(path)) this.disk.unlink(path)
    for (const [path, text] of image) this.put(path, Buffer.from(text, 'latin1'))
  }

  put(path: string, bytes: Uint8Array): void {
    const file = this.disk.open(path, 'write')
    file.truncate(0)
    if (bytes.length > 0) file.write(0, [bytes])
    file.close()
  }

  /** Changes bytes of a file from `position` on; negative: from its end. */
  damage(path: string, position: number, bytes: readonly number[] = [0xff]): void {
    const file = this.disk.open(path, 'write')
    const at = position < 0 ? file.sizeBytes() + position : position
    const old = new Uint8Array(bytes.length)
    file.read(at, old)
    file.write(at, [Uint8Array.from(bytes, (byte, index) => (old[index] as number) ^ byte)])
    file.close()
  }

  /** Names in the partition's directory with this ending. */
  names(ending: string): string[] {
    return this.disk.list(`${PATH}/t-0`).filter((name) => name.endsWith(ending))
  }
}
