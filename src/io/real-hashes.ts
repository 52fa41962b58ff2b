/** The Hashes port over node:crypto, which takes milliseconds to load: import this file only where a login is due. */
import { createHash, createHmac, pbkdf2, timingSafeEqual } from 'node:crypto'
import type { Hashes, HashName } from '../ports/hashes.ts'

const hashBytes: Readonly<Record<HashName, number>> = { sha256: 32, sha512: 64 }

export class RealHashes implements Hashes {
  digest(hash: HashName, bytes: Uint8Array): Uint8Array {
    return createHash(hash).update(bytes).digest()
  }

  hmac(hash: HashName, key: Uint8Array, bytes: Uint8Array): Uint8Array {
    return createHmac(hash, key).update(bytes).digest()
  }

  stretch(
    hash: HashName,
    password: Uint8Array,
    salt: Uint8Array,
    iterations: number,
  ): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      pbkdf2(password, salt, iterations, hashBytes[hash], hash, (error, key) => {
        if (error === null) resolve(key)
        else reject(error)
      })
    })
  }

  isEqual(left: Uint8Array, right: Uint8Array): boolean {
    return left.length === right.length && timingSafeEqual(left, right)
  }
}
