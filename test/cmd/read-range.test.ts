/** Positions behind what a partition has. */
import { describe, expect, it } from 'vitest'
import { type AskOffsets, resolveRanges } from '../../cmd/read-range.ts'

const NAME = { topic: 't', partition: 0 }
const STORED = { has: () => true, hint: 'move it' }
const UNTIL_END = { all: { kind: 'end' }, places: [] } as const

/** A partition with a transaction open from 10 on. */
const ask: AskOffsets = (questions, isUncommitted = false) => {
  const end = isUncommitted ? 30 : 10
  const rows = questions.map((each) => ({
    ...each,
    offset: each.at === 'earliest' ? 0 : end,
    timestampMs: -1,
  }))
  return Promise.resolve(rows)
}

function from(offset: number) {
  return { all: { kind: 'offset', offset }, places: [] } as const
}

describe('a position that was stored', () => {
  it('may lie in what is not committed yet: who stored it reads that too', async () => {
    expect(await resolveRanges([NAME], from(20), undefined, ask, STORED)).toMatchObject([
      { startOffset: 20, endOffset: undefined },
    ])
    expect(await resolveRanges([NAME], from(20), UNTIL_END, ask, STORED)).toMatchObject([
      { startOffset: 20, endOffset: 20 },
    ])
  })

  for (const [name, until] of [
    ['a read that follows', undefined],
    ['a bounded one', UNTIL_END],
  ] as const) {
    it(`beyond the end is refused by ${name}: it is of another log`, async () => {
      await expect(resolveRanges([NAME], from(31), until, ask, STORED)).rejects.toMatchObject({
        code: 'OFFSET_OUT_OF_RANGE',
        message: 't: partition 0 ends at 30, before 31',
        hint: 'move it',
      })
    })
  }
})

it('a flag may name a place beyond the end, where nothing is to be read', async () => {
  expect(await resolveRanges([NAME], from(31), UNTIL_END, ask)).toMatchObject([
    { startOffset: 31, endOffset: 31 },
  ])
  await expect(resolveRanges([NAME], from(31), undefined, ask)).rejects.toThrow('ends at 30')
})
