/** Randomness as the core sees it. Real: src/io/real-random.ts (cryptographic); simulated: seeded, in test/sim. */
export interface Random {
  /** `count` fresh bytes. */
  bytes(count: number): Uint8Array
  /** Uniform in [0, 1). */
  fraction(): number
}
