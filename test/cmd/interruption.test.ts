import { describe, expect, it } from 'vitest'
import { Interruption } from '../../cmd/interruption.ts'
import type { DeathSignal } from '../../src/ports/host.ts'

function attached() {
  const handlers = new Map<string, () => void>()
  const deaths: DeathSignal[] = []
  let nowMs = 1000
  const interruption = new Interruption()
  interruption.attach(
    {
      onSignal: (signal, handler) => {
        handlers.set(signal, handler as () => void)
        return () => undefined
      },
      // The real one does not come back.
      dieBySignal: (signal) => {
        deaths.push(signal)
        throw new Error('dead')
      },
    },
    { monotonicMs: () => nowMs },
  )
  const send = (signal: DeathSignal, afterMs = 0): void => {
    nowMs += afterMs
    try {
      handlers.get(signal)?.()
    } catch {
      // Dead.
    }
  }
  return { interruption, deaths, send }
}

describe('Interruption', () => {
  it('ends a command that listens to nobody', () => {
    const { deaths, send } = attached()
    send('SIGTERM')
    expect(deaths).toEqual(['SIGTERM'])
  })

  it('asks at the first signal, ends at the second', () => {
    const { interruption, deaths, send } = attached()
    let asked = 0
    interruption.onRaised(() => {
      asked += 1
    })
    send('SIGINT')
    expect([asked, deaths]).toEqual([1, []])
    send('SIGINT', 300)
    expect([asked, deaths]).toEqual([1, ['SIGINT']])
  })

  it('takes the same signal sent to the process and to its group for one', () => {
    const { interruption, deaths, send } = attached()
    interruption.onRaised(() => undefined)
    send('SIGINT')
    send('SIGINT', 2)
    expect(deaths).toEqual([])
    send('SIGTERM', 2)
    expect(deaths).toEqual(['SIGTERM'])
  })
})
