/**
 * Seeded randomness. One seed gives one stream; `fork` gives streams of their own, so that a draw more in one place does not
 * shift every other place's.
 */
import type { Random } from '../../src/ports/random.ts'

const WARM_UP_DRAWS = 12

export class SimRandom implements Random {
  private a: number
  private b: number
  private c: number
  private d = 1

  constructor(seed: number | string) {
    const [a, b, c] = mix(String(seed))
    this.a = a
    this.b = b
    this.c = c
    for (let draw = 0; draw < WARM_UP_DRAWS; draw++) this.word()
  }

  bytes(count: number): Uint8Array {
    const out = new Uint8Array(count)
    for (let at = 0; at < count; at++) out[at] = this.word() & 0xff
    return out
  }

  fraction(): number {
    return ((this.word() >>> 11) * 0x1_0000_0000 + this.word()) / 0x20_0000_0000_0000
  }

  /** Uniform in [0, end), an integer. */
  integer(end: number): number {
    return Math.floor(this.fraction() * end)
  }

  /** Uniform in [low, high). */
  between(low: number, high: number): number {
    return low + this.fraction() * (high - low)
  }

  chance(odds: number): boolean {
    return odds > 0 && this.fraction() < odds
  }

  pick<T>(from: readonly T[]): T {
    if (from.length === 0) throw new RangeError('nothing to pick from')
    return from[this.integer(from.length)] as T
  }

  shuffle<T>(from: readonly T[]): T[] {
    const out = [...from]
    for (let last = out.length - 1; last > 0; last--) {
      const other = this.integer(last + 1)
      const kept = out[last] as T
      out[last] = out[other] as T
      out[other] = kept
    }
    return out
  }

  /** A stream of its own, set by one draw of this one and the name. */
  fork(name: string): SimRandom {
    return new SimRandom(`${this.word()}/${name}`)
  }

  /** 32 bits of the generator sfc32 (Chris Doty-Humphrey, PractRand). */
  private word(): number {
    const sum = (this.a + this.b + this.d) | 0
    this.d = (this.d + 1) | 0
    this.a = this.b ^ (this.b >>> 9)
    this.b = (this.c + (this.c << 3)) | 0
    this.c = ((this.c << 21) | (this.c >>> 11)) + sum
    return sum >>> 0
  }
}

/** Three words from a text, by FNV-1a with different starts. */
function mix(text: string): [number, number, number] {
  const word = (start: number): number => {
    let hash = start
    for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 16777619)
    return hash >>> 0
  }
  return [word(0x811c9dc5), word(0x9dc5811c), word(0x1c9dc581)]
}
