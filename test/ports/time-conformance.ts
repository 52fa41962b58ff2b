/** What every Time must do; run on the real clock and the simulated one. */
import { describe, expect, it } from 'vitest'
import { sleep, type Time } from '../../src/ports/time.ts'

export interface TimeHarness {
  readonly time: Time
  /** Lets time pass until the promise is settled. */
  settle<T>(promise: Promise<T>): Promise<T>
}

export function describeTime(name: string, make: () => TimeHarness): void {
  describe(`Time: ${name}`, () => {
    it('a timer never fires early, and only once', async () => {
      const { time, settle } = make()
      const began = time.monotonicMs()
      let fired = 0
      const ended = await settle(
        new Promise<number>((resolve) => {
          time.setTimer(5.5, () => {
            fired += 1
            resolve(time.monotonicMs())
          })
        }),
      )
      expect(ended - began).toBeGreaterThanOrEqual(5.5)
      await settle(sleep(time, 5))
      expect(fired).toBe(1)
    })

    it('a cancelled timer never fires, and cancelling twice is fine', async () => {
      const { time, settle } = make()
      let hasFired = false
      const timer = time.setTimer(1, () => {
        hasFired = true
      })
      timer.cancel()
      timer.cancel()
      await settle(sleep(time, 5))
      expect(hasFired).toBe(false)
    })

    it('timers fire in the order of their times, equal ones in the order they were set', async () => {
      const { time, settle } = make()
      const order: string[] = []
      const set = (label: string, delayMs: number): Promise<void> =>
        new Promise((resolve) => {
          time.setTimer(delayMs, () => {
            order.push(label)
            resolve()
          })
        })
      await settle(Promise.all([set('late', 30), set('first', 0), set('second', 0)]))
      expect(order).toEqual(['first', 'second', 'late'])
    })

    it('a delay of zero or less never calls back from inside setTimer', async () => {
      const { time, settle } = make()
      let isInside = true
      const wasInside = await settle(
        new Promise<boolean>((resolve) => {
          time.setTimer(-5, () => resolve(isInside))
          isInside = false
        }),
      )
      expect(wasInside).toBe(false)
    })

    it('wall time is an integer, monotonic time does not fall', async () => {
      const { time, settle } = make()
      expect(Number.isInteger(time.wallMs())).toBe(true)
      const before = time.monotonicMs()
      await settle(sleep(time, 2))
      expect(time.monotonicMs()).toBeGreaterThanOrEqual(before + 2)
    })
  })
}
