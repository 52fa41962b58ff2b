import { EventEmitter } from 'node:events'
import { describe, expect, it } from 'vitest'
import { listenForStopSignals } from '../../daemon/stop-signals.ts'

describe('stop signals', () => {
  function world() {
    const process = new EventEmitter()
    const heard: string[] = []
    const clock = { ms: 0 }
    listenForStopSignals(
      process as NodeJS.Process,
      { monotonicMs: () => clock.ms },
      (signal) => heard.push(signal),
      () => heard.push('end'),
    )
    return { process, heard, clock }
  }

  it('the same one within a moment counts once, later it ends', () => {
    const { process, heard, clock } = world()
    process.emit('SIGTERM')
    clock.ms = 249
    process.emit('SIGTERM')
    expect(heard).toEqual(['SIGTERM'])
    clock.ms = 250
    process.emit('SIGTERM')
    expect(heard).toEqual(['SIGTERM', 'end'])
  })

  it('another one ends at once', () => {
    const { process, heard } = world()
    process.emit('SIGTERM')
    process.emit('SIGINT')
    expect(heard).toEqual(['SIGTERM', 'end'])
  })
})
