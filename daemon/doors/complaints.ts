/** Says the same thing about the same client once. The memory of it is bounded; a full one begins anew. */

import type { Log, LogFields } from '../../src/ports/log.ts'

const REMEMBERED_MAX = 1000

export class Complaints {
  readonly #log: Log
  readonly #said = new Set<string>()

  constructor(log: Log) {
    this.#log = log
  }

  once(key: string, message: string, fields: LogFields): void {
    if (this.#said.has(key)) return
    if (this.#said.size >= REMEMBERED_MAX) this.#said.clear()
    this.#said.add(key)
    this.#log.warn(message, fields)
  }
}
