/** Two streams of records compared one by one, and what is said of the first that differ. */

import type { CommandDeps } from './deps.ts'
import { ComparedRecord, type Comparison } from './verify-record.ts'
import type { RecordStream } from './verify-side.ts'

export interface Difference {
  readonly words: string
  readonly a: ComparedRecord | undefined
  readonly b: ComparedRecord | undefined
}

export interface StreamComparison {
  readonly countA: number
  readonly countB: number
  readonly equal: number
  readonly difference: Difference | undefined
}

/**
 * Reads both to their ends, and closes them.
 * @param where  what they are of, for the words of a difference
 */
export async function compareStreams(
  streamA: RecordStream,
  streamB: RecordStream,
  what: Comparison,
  where: string,
): Promise<StreamComparison> {
  const recordA = new ComparedRecord()
  const recordB = new ComparedRecord()
  let countA = 0
  let countB = 0
  let equal = 0
  let difference: Difference | undefined
  try {
    for (;;) {
      const nextA = streamA.next(recordA)
      const hasA: boolean = typeof nextA === 'boolean' ? nextA : await nextA
      const nextB = streamB.next(recordB)
      const hasB: boolean = typeof nextB === 'boolean' ? nextB : await nextB
      if (!hasA && !hasB) return { countA, countB, equal, difference }
      if (hasA) countA += 1
      if (hasB) countB += 1
      if (hasA && hasB && recordA.equals(recordB, what)) equal += 1
      else {
        difference ??= {
          words: `${where}, record ${Math.max(countA, countB)}`,
          a: hasA ? copyOf(recordA) : undefined,
          b: hasB ? copyOf(recordB) : undefined,
        }
      }
    }
  } finally {
    streamA.close()
    streamB.close()
  }
}

/** Both records as envelopes, on standard error. */
export function tellDifference(
  deps: CommandDeps,
  nameA: string,
  nameB: string,
  { words, a, b }: Difference,
): void {
  deps.console.warn(`${nameA} and ${nameB} differ: ${words}`)
  deps.console.print(a?.envelope() ?? 'null\n')
  deps.console.print(b?.envelope() ?? 'null\n')
}

function copyOf(record: ComparedRecord): ComparedRecord {
  const copy = new ComparedRecord()
  copy.copyFrom(record)
  return copy
}
