/** Hand-made histories, good and bad: each oracle catches its anomaly and nothing else. */
import { describe, expect, it } from 'vitest'
import {
  type AnomalyKind,
  type FoundRecord,
  type History,
  judge,
  type SentRecord,
} from './history.ts'

const sent = (ordinal: number, offset: number | undefined, producer = 'p'): SentRecord => ({
  producer,
  ordinal,
  value: `${producer}-${ordinal}`,
  acknowledged: offset === undefined ? undefined : { topic: 't', partition: 0, offset },
})
const found = (offset: number, value: string, partition = 0): FoundRecord => ({
  topic: 't',
  partition,
  offset,
  value,
})

const good: History = {
  sent: [sent(0, 0), sent(1, 1), sent(2, undefined), sent(0, 2, 'q')],
  found: [found(0, 'p-0'), found(1, 'p-1'), found(2, 'q-0')],
}

const bad: Record<Exclude<AnomalyKind, 'broken-off'>, History> = {
  'lost-write': { ...good, found: good.found.slice(0, 2) },
  'moved-write': { sent: [sent(0, 1), sent(1, 0)], found: [found(0, 'p-0')] },
  duplicate: { ...good, found: [...good.found, found(3, 'p-1')] },
  altered: { ...good, found: [...good.found, found(3, 'p-\u0000')] },
  reordered: {
    sent: [sent(0, undefined), sent(1, undefined)],
    found: [found(0, 'p-1'), found(1, 'p-0')],
  },
  'offsets-do-not-rise': { sent: good.sent, found: [...good.found, found(2, 'q-0')] },
  hole: {
    sent: good.sent,
    found: [found(0, 'p-0'), found(1, 'p-1'), found(2, 'q-0'), found(4, 'p-2')],
  },
  'inconsistent-offsets': { sent: good.sent, found: [...good.found, found(2, 'p-2')] },
}

describe('judge', () => {
  it('finds nothing wrong with a good history; what was not acknowledged may be there or not', () => {
    expect(judge(good)).toEqual([])
    expect(judge({ ...good, found: [...good.found, found(3, 'p-2')] })).toEqual([])
  })

  for (const [kind, history] of Object.entries(bad)) {
    it(`catches: ${kind}`, () => {
      expect(judge(history).map((anomaly) => anomaly.kind)).toContain(kind)
    })
  }

  it('excuses exactly what the daemon named as damaged', () => {
    const damaged = [{ topic: 't', partition: 0, from: 1, to: 2 }]
    const without = [found(0, 'p-0'), found(2, 'q-0')]
    expect(judge({ ...good, found: without, damaged })).toEqual([])
    expect(
      judge({ ...good, found: without })
        .map((anomaly) => anomaly.kind)
        .sort(),
    ).toEqual(['hole', 'lost-write'])
  })
})
