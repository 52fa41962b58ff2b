/** A reader that follows a topic for weeks keeps nothing of what it has waited for. */
import { queryObjects } from 'node:v8'
import { describe, expect, it } from 'vitest'
import { World } from './fake-world.ts'

const promises = (): number => Number(queryObjects(Promise, { format: 'count' }))
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('a read without an end', () => {
  it.each([
    ['as they come', []],
    ['for a while', ['--idle', '1h']],
    ['at a rate', ['--rate', '1000/s']],
  ])('of records one by one, %s, leaves no promise behind', async (_name, flags) => {
    const world = new World()
    world.broker.addTopic('t')
    const done = world.run('consume', 't', '--from', 'start', ...flags)
    let sent = 0
    const send = async (count: number): Promise<void> => {
      for (const end = sent + count; sent < end; sent += 1) {
        world.broker.add('t', 0, `${sent}`)
        while (!world.output.text.endsWith(`${sent}\n`)) await turn()
      }
    }
    await send(100)
    const before = promises()
    await send(500)
    expect(promises() - before).toBeLessThan(100)
    world.interruption.raise('SIGTERM')
    expect(await done).toMatchObject({ exit: 'SIGTERM', stderr: '' })
  })
})
