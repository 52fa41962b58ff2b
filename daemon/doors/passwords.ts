/**
 * Judges the passwords of PLAIN by what SCRAM keeps of them: the same user may log in either way. A user that does not exist
 * takes as long as one that does. Stretching a password is slow on purpose, so only a few run at once: the threads that
 * they run on are those that write and sync the logs.
 */

import type { Hashes } from '../../src/ports/hashes.ts'
import type { Random } from '../../src/ports/random.ts'
import {
  type ScramCredential,
  type ScramMechanism,
  scramKinds,
  scramMechanisms,
  storedKeyOf,
} from '../../src/protocol/scram.ts'
import type { UserValue } from '../metadata/user-values.ts'

const AT_ONCE = 2
/** As `stream users set` makes them. */
const FAKE_ITERATIONS = 8192
const FAKE_SALT_BYTES = 24

export class Passwords {
  readonly #hashes: Hashes
  readonly #secret: Uint8Array
  #running = 0
  readonly #waiting: (() => void)[] = []

  constructor(hashes: Hashes, random: Random) {
    this.#hashes = hashes
    this.#secret = random.bytes(32)
  }

  /** What no password fits, always the same for one name, as if it were a user's. */
  fake(user: string, mechanism: ScramMechanism): ScramCredential {
    const { hash, hashBytes } = scramKinds[mechanism]
    const made = (what: string): Uint8Array =>
      this.#hashes.hmac(hash, this.#secret, Buffer.from(`${what}\0${mechanism}\0${user}`))
    return {
      salt: made('salt').subarray(0, FAKE_SALT_BYTES),
      iterations: FAKE_ITERATIONS,
      storedKey: made('stored').subarray(0, hashBytes),
      serverKey: made('server').subarray(0, hashBytes),
    }
  }

  /**
   * With two mechanisms a user may have two passwords. All are tried before a refusal, what a user lacks too, so that it takes as
   * long for everybody.
   * @returns the mechanism whose credential it fits; undefined: it fits none
   */
  async judge(
    user: string,
    value: UserValue | undefined,
    password: Uint8Array,
  ): Promise<ScramMechanism | undefined> {
    await this.#begin()
    try {
      for (const mechanism of scramMechanisms) {
        const credential = value?.[mechanism]
        const fits = await this.#fits(mechanism, credential ?? this.fake(user, mechanism), password)
        if (fits && credential !== undefined) return mechanism
      }
      return undefined
    } finally {
      this.#end()
    }
  }

  async #fits(
    mechanism: ScramMechanism,
    { salt, iterations, storedKey }: ScramCredential,
    password: Uint8Array,
  ): Promise<boolean> {
    const { hash } = scramKinds[mechanism]
    const salted = await this.#hashes.stretch(hash, password, salt, iterations)
    return this.#hashes.isEqual(storedKeyOf(this.#hashes, hash, salted), storedKey)
  }

  async #begin(): Promise<void> {
    if (this.#running >= AT_ONCE) {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve)
      })
    }
    this.#running += 1
  }

  #end(): void {
    this.#running -= 1
    this.#waiting.shift()?.()
  }
}
