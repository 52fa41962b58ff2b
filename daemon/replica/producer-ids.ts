/**
 * Producer ids for idempotent producers: taken from the store in blocks (T10), handed out once. The next block is there before
 * the last one is used up, so that producers can begin while the store is away.
 */

import { isStreamError, StreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Store } from '../metadata/commit.ts'
import type { MetadataImage } from '../metadata/metadata-image.ts'
import type { MetadataKeys } from '../metadata/metadata-keys.ts'
import { RepeatedWarning } from '../metadata/repeated-warning.ts'
import { PRODUCER_ID_BLOCK, takeProducerIds } from '../metadata/topic-transactions.ts'

interface Block {
  next: number
  readonly end: number
}

export class ProducerIds {
  readonly #store: Store
  readonly #keys: MetadataKeys
  readonly #image: MetadataImage
  readonly #trouble: RepeatedWarning
  #block: Block = { next: 0, end: 0 }
  #spare: Block | undefined
  #filling: Promise<void> | undefined

  constructor(store: Store, keys: MetadataKeys, image: MetadataImage, log: Log) {
    this.#store = store
    this.#keys = keys
    this.#image = image
    this.#trouble = new RepeatedWarning(store.time, log, 'no producer ids could be taken')
  }

  /** Takes a block before one is asked for; a failure is for the next time. */
  prepare(): void {
    if (this.#spare === undefined) this.#fill().catch(() => undefined)
  }

  /** Ids up to `last` are in use by records that came from another cluster. */
  passOver(last: number): void {
    if (this.#spare !== undefined && this.#spare.end <= last + 1) this.#spare = undefined
    if (this.#block.next > last) return
    if (this.#block.end <= last + 1) this.#block = { next: 0, end: 0 }
    else this.#block.next = last + 1
  }

  /** @throws StreamError STORE_UNAVAILABLE, DISK_FULL, NOT_ALLOWED (all of the store) */
  async take(): Promise<number> {
    while (this.#block.next === this.#block.end) {
      if (this.#spare === undefined) await this.#fill()
      else {
        this.#block = this.#spare
        this.#spare = undefined
      }
    }
    const { next, end } = this.#block
    this.#block.next += 1
    if (end - next === PRODUCER_ID_BLOCK / 2) this.prepare()
    return next
  }

  #fill(): Promise<void> {
    this.#filling ??= this.#takeBlock().finally(() => {
      this.#filling = undefined
    })
    return this.#filling
  }

  async #takeBlock(): Promise<void> {
    try {
      // An older copy of the store would give ids once more that are in use.
      if (this.#image.regressed !== undefined) {
        throw new StreamError('STORE_UNAVAILABLE', 'the metadata store is an older copy of itself')
      }
      const first = await takeProducerIds(this.#store, this.#keys)
      this.#spare = { next: first, end: first + PRODUCER_ID_BLOCK }
      this.#trouble.over()
    } catch (error) {
      if (!isStreamError(error, 'CLOSED')) this.#trouble.tell(error)
      throw error
    }
  }
}
