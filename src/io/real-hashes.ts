/** The Hashes port over node:crypto, which takes milliseconds to load: it is, when the first of these is made. */
import type { Hashes, HashName } from '../ports/hashes.ts'
import { cryptoModule } from './lazy-modules.ts'

const hashBytes: Readonly<Record<HashName, number>> = { sha256: 32, sha512: 64 }

export class RealHashes implements Hashes {
  private readonly crypto = cryptoModule()

  digest(hash: HashName, bytes: Uint8Array): Uint8Array {
    return this.crypto.createHash(hash).update(bytes).digest()
  }

  hmac(hash: HashName, key: Uint8Array, bytes: Uint8Array): Uint8Array {
    return this.crypto.createHmac(hash, key).update(bytes).digest()
  }

  stretch(
    hash: HashName,
    password: Uint8Array,
    salt: Uint8Array,
    iterations: number,
  ): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      this.crypto.pbkdf2(password, salt, iterations, hashBytes[hash], hash, (error, key) => {
        if (error === null) resolve(key)
        else reject(error)
      })
    })
  }

  isEqual(left: Uint8Array, right: Uint8Array): boolean {
    return left.length === right.length && this.crypto.timingSafeEqual(left, right)
  }
}
