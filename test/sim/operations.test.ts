/** Hand-made histories, good and bad: every anomaly of reliability.md section 4 is caught, and what is normal is not. */
import { describe, expect, it } from 'vitest'
import {
  judgeOperations,
  type Moved,
  type Operation,
  type OperationAnomalyKind,
  type OperationHistory,
  type Poll,
  type Send,
} from './operations.ts'

const send = (value: string, offset?: number, key = 'a'): Send => ({
  kind: 'send',
  key,
  value,
  offset,
})
/** `poll('a', 0, 'x', 1, 'y')`: two records. */
const poll = (key: string, ...rows: readonly (number | string)[]): Poll => ({
  kind: 'poll',
  key,
  records: rows.flatMap((offset, index) =>
    typeof offset === 'number' ? [{ offset, value: String(rows[index + 1]) }] : [],
  ),
})
const work = (
  process: string,
  outcome: Operation['outcome'],
  ...steps: readonly (Poll | Send)[]
): Operation => ({ process, outcome, isTransaction: false, steps })
const txn = (
  process: string,
  outcome: Operation['outcome'],
  ...steps: readonly (Poll | Send)[]
): Operation => ({ process, outcome, isTransaction: true, steps })
const moved = (process: string, ...keys: readonly string[]): Moved => ({ process, moved: keys })
const history = (
  operations: OperationHistory['operations'],
  final: readonly Poll[],
  more: Partial<OperationHistory> = {},
): OperationHistory => ({ operations, final, ...more })
const kinds = (each: OperationHistory): readonly OperationAnomalyKind[] =>
  judgeOperations(each).map(({ kind }) => kind)

const three = [work('s', 'ok', send('x', 0)), work('s', 'ok', send('y', 1), send('z', 2))]
const all = [poll('a', 0, 'x', 1, 'y', 2, 'z')]

const bad: Record<OperationAnomalyKind, OperationHistory> = {
  'inconsistent-offsets': history([...three, work('r', 'ok', poll('a', 1, 'w'))], all),
  duplicate: history(three, [poll('a', 0, 'x', 1, 'y', 2, 'z', 3, 'y')]),
  'lost-write': history(three, [poll('a', 0, 'x', 2, 'z')]),
  unseen: history(three, [poll('a', 0, 'x', 1, 'y')]),
  'aborted-read': history([txn('t', 'fail', send('x'))], [poll('a', 0, 'x')]),
  'torn-transaction': history(
    [txn('t', 'info', send('x'), send('y', undefined, 'b'))],
    [poll('a', 0, 'x'), poll('b')],
  ),
  'precommitted-read': history(
    [txn('t', 'ok', send('x', 0), poll('a', 0, 'x'))],
    [poll('a', 0, 'x')],
  ),
  'poll-skip': history([...three, work('r', 'ok', poll('a', 0, 'x', 2, 'z'))], all),
  'nonmonotonic-poll': history(
    [...three, work('r', 'ok', poll('a', 0, 'x', 1, 'y')), work('r', 'ok', poll('a', 1, 'y'))],
    all,
  ),
  'int-poll-skip': history([...three, txn('t', 'ok', poll('a', 0, 'x'), poll('a', 2, 'z'))], all),
  'int-nonmonotonic-poll': history(
    [...three, txn('t', 'ok', poll('a', 1, 'y'), poll('a', 0, 'x'))],
    all,
  ),
  'nonmonotonic-send': history(
    [work('s', 'ok', send('y', 1)), work('s', 'ok', send('x', 0))],
    [poll('a', 0, 'x', 1, 'y')],
  ),
  'int-nonmonotonic-send': history(
    [txn('t', 'ok', send('y', 1), send('x', 0))],
    [poll('a', 0, 'x', 1, 'y')],
  ),
  'information-cycle': history(
    [
      txn('t', 'ok', send('x', 0), poll('b', 0, 'y')),
      txn('u', 'ok', send('y', 0, 'b'), poll('a', 0, 'x')),
    ],
    [poll('a', 0, 'x'), poll('b', 0, 'y')],
  ),
  'commit-regress': history(three, all, {
    commits: [
      { group: 'g', key: 'a', offset: 2 },
      { group: 'g', key: 'a', offset: 1 },
    ],
  }),
  'hanging-transaction': history(three, all, { open: ['a'] }),
}

describe('judgeOperations', () => {
  for (const [kind, each] of Object.entries(bad)) {
    it(`catches: ${kind}`, () => {
      expect(kinds(each)).toContain(kind)
    })
  }

  it.each<[string, OperationHistory]>([
    ['all was read', history([...three, work('r', 'ok', ...all)], all)],
    [
      'offsets of markers and of what was aborted hold nothing',
      history(
        [
          work('s', 'ok', send('x', 0)),
          work('s', 'ok', send('y', 5)),
          work('r', 'ok', poll('a', 0, 'x', 5, 'y')),
        ],
        [poll('a', 0, 'x', 5, 'y')],
      ),
    ],
    ['what nobody can tell is there', history([txn('t', 'info', send('x'))], [poll('a', 0, 'x')])],
    ['what nobody can tell is not there', history([txn('t', 'info', send('x'))], [poll('a')])],
    ['what was aborted was read by nobody', history([txn('t', 'fail', send('x', 0))], [poll('a')])],
    [
      'a reader begins anew elsewhere',
      history(
        [
          ...three,
          work('r', 'ok', poll('a', 0, 'x')),
          moved('r', 'a'),
          work('r', 'ok', poll('a', 2, 'z')),
          moved('r', 'a'),
          work('r', 'ok', poll('a', 1, 'y')),
        ],
        all,
      ),
    ],
    [
      'two readers at different places',
      history(
        [...three, work('r', 'ok', poll('a', 2, 'z')), work('q', 'ok', poll('a', 0, 'x'))],
        all,
      ),
    ],
    [
      'foreign records within a transaction (int-send-skip)',
      history([txn('t', 'ok', send('x', 0), send('z', 2)), work('s', 'ok', send('y', 1))], all),
    ],
    [
      'transactions that write between each other (G0)',
      history(
        [
          txn('t', 'ok', send('x', 0), send('q', 1, 'b')),
          txn('u', 'ok', send('y', 1), send('p', 0, 'b')),
          work('s', 'ok', send('z', 2)),
        ],
        [...all, poll('b', 0, 'p', 1, 'q')],
      ),
    ],
    [
      'one reads of the other, and not the other way round',
      history(
        [txn('t', 'ok', send('x', 0)), txn('u', 'ok', poll('a', 0, 'x'), send('y', 0, 'b'))],
        [poll('a', 0, 'x'), poll('b', 0, 'y')],
      ),
    ],
    [
      'commits that stand or go on',
      history(three, all, {
        commits: [
          { group: 'g', key: 'a', offset: 1 },
          { group: 'h', key: 'a', offset: 0 },
          { group: 'g', key: 'a', offset: 1 },
          { group: 'g', key: 'a', offset: 3 },
        ],
      }),
    ],
  ])('finds nothing wrong: %s', (_name, each) => {
    expect(judgeOperations(each)).toEqual([])
  })
})
