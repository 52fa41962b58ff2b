import { describe, expect, it } from 'vitest'
import { Refusals } from '../../../daemon/doors/refusals.ts'
import type { Time } from '../../../src/ports/time.ts'
import { KeptLog } from '../../support/kept-log.ts'

class HandTime implements Time {
  nowMs = 0
  wallMs = (): number => this.nowMs
  monotonicMs = (): number => this.nowMs
  setTimer(): never {
    throw new Error('no timers here')
  }
}

describe('Refusals', () => {
  it('tells a cause and a peer once a minute, with how often it was', () => {
    const time = new HandTime()
    const log = new KeptLog()
    const refusals = new Refusals(time, log)
    const refusal = { why: 'its key is not known here', peer: '10.0.0.7', publicKey: 'K' }
    for (let count = 0; count < 5; count += 1) refusals.tell('tcp://h:1', refusal)
    expect(log.lines).toHaveLength(1)
    expect(log.lines[0]).toContain('refused a peer: its key is not known here')
    expect(log.lines[0]).toContain('10.0.0.7')
    refusals.tell('tcp://h:1', { ...refusal, peer: '10.0.0.8' })
    expect(log.lines).toHaveLength(2)
    time.nowMs = 60_000
    refusals.tell('tcp://h:1', refusal)
    expect(log.lines).toHaveLength(3)
    expect(log.lines[2]).toContain('again=4')
  })

  it('a thousand keys that nobody knows are a few lines', () => {
    const time = new HandTime()
    const log = new KeptLog()
    const refusals = new Refusals(time, log)
    for (let key = 0; key < 5000; key += 1) {
      refusals.tell('tcp://h:1', { why: 'its key is not known here', publicKey: `${key}` })
    }
    expect(log.lines).toHaveLength(20)
    time.nowMs = 60_000
    refusals.tell('tcp://h:1', { why: 'its key is not known here', publicKey: 'x' })
    expect(log.lines).toHaveLength(21)
  })
})
