/** Cryptographic functions of logins. Real: src/io/real-hashes.ts, over the runtime's own; loaded only where somebody logs in. */
export type HashName = 'sha256' | 'sha512'

export interface Hashes {
  digest(hash: HashName, bytes: Uint8Array): Uint8Array
  hmac(hash: HashName, key: Uint8Array, bytes: Uint8Array): Uint8Array
  /** PBKDF2 with the length of the hash; off the main thread, since it is slow on purpose. */
  stretch(
    hash: HashName,
    password: Uint8Array,
    salt: Uint8Array,
    iterations: number,
  ): Promise<Uint8Array>
  /** In a time that does not tell where they differ. */
  isEqual(left: Uint8Array, right: Uint8Array): boolean
}
