/** The leader epochs of one log on disk: `leader-epoch-checkpoint`, Kafka's text file. */
import { Buffer } from 'node:buffer'
import type { Disk } from '../../src/ports/disk.ts'
import { replaceFile } from './file-writes.ts'
import { LeaderEpochs } from './leader-epochs.ts'
import type { LogCore } from './log-core.ts'
import { encodeEpochFile, parseEpochFile } from './text-checkpoint.ts'

function epochPath(directory: string): string {
  return `${directory}/leader-epoch-checkpoint`
}

/** @returns undefined when the file is missing or bad: the epochs must be taken from the batches */
export function readEpochFile(disk: Disk, directory: string): LeaderEpochs | undefined {
  const bytes = disk.readFile(epochPath(directory))
  const entries = bytes && parseEpochFile(Buffer.from(bytes).toString('utf8'))
  return entries && new LeaderEpochs(entries)
}

/** One write at a time per log; a call joins the one that has not begun. @throws StreamError of the disk */
export class EpochFile {
  readonly #core: LogCore
  #writing: Promise<void> | undefined

  constructor(core: LogCore) {
    this.#core = core
  }

  async save(): Promise<void> {
    const core = this.#core
    while (this.#writing !== undefined) await this.#writing.catch(() => {})
    if (!core.epochsNeedSaving) return
    this.#writing = this.#write()
    try {
      await this.#writing
    } finally {
      this.#writing = undefined
    }
  }

  async #write(): Promise<void> {
    const { context, directory, epochs } = this.#core
    const version = epochs.version
    const content = encodeEpochFile(epochs.entries)
    const path = epochPath(directory)
    await context.ballast.during(() => replaceFile(context.disk, context.syncs, path, content))
    this.#core.noteEpochsSaved(version)
  }
}
