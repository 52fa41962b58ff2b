/** Producer ids for idempotent producers: taken from the store in blocks (T10), handed out once. */

import type { Store } from '../metadata/commit.ts'
import type { MetadataKeys } from '../metadata/metadata-keys.ts'
import { PRODUCER_ID_BLOCK, takeProducerIds } from '../metadata/topic-transactions.ts'

export class ProducerIds {
  readonly #store: Store
  readonly #keys: MetadataKeys
  #next = 0
  #end = 0
  #filling: Promise<void> | undefined

  constructor(store: Store, keys: MetadataKeys) {
    this.#store = store
    this.#keys = keys
  }

  /** @throws StreamError STORE_UNAVAILABLE */
  async take(): Promise<number> {
    while (this.#next === this.#end) {
      this.#filling ??= this.#fill().finally(() => {
        this.#filling = undefined
      })
      await this.#filling
    }
    const id = this.#next
    this.#next += 1
    return id
  }

  async #fill(): Promise<void> {
    const first = await takeProducerIds(this.#store, this.#keys)
    this.#next = first
    this.#end = first + PRODUCER_ID_BLOCK
  }
}
