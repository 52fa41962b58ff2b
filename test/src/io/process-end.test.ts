/** A process's own end: nothing of V8 may be left waiting for memory when Node joins its threads. */
import { spawnSync } from 'node:child_process'
import { resolve } from 'node:path'
import { describe, expect, it } from 'vitest'

const module = resolve(import.meta.dirname, '../../../src/io/process-end.ts')

/** @returns its exit code, and whether the last thing it did was to collect all garbage */
function end(body: string): readonly [code: number | null, hasCollected: boolean] {
  const script = `import { endProcess } from ${JSON.stringify(module)}\n${body}`
  const flags = ['--trace-gc', '--input-type=module', '--eval', script]
  const { status, stdout } = spawnSync(process.execPath, flags, { encoding: 'utf8' })
  return [status, stdout.slice(stdout.lastIndexOf('end:')).includes('Mark-Compact')]
}

describe('endProcess', () => {
  it('collects garbage first where much was taken', () => {
    const body = `const taken = new Uint8Array(64 * 1024 * 1024).fill(1)
      process.stdout.write('end:' + taken.length)
      endProcess(7)`
    expect(end(body)).toEqual([7, true])
  })

  it('and where it has lived long', () => {
    const body = `setTimeout(() => { process.stdout.write('end:'); endProcess(0) }, 150)`
    expect(end(body)).toEqual([0, true])
  })

  it('leaves the flags of V8 as they were: they stand in a code cache that is made then', () => {
    const body = `import { Script } from 'node:vm'
      const flagsOf = () => new Script('1').createCachedData().toString('hex', 12, 16)
      const before = flagsOf()
      process.reallyExit = (code) => {
        process.stdout.write('end:')
        process.exitCode = flagsOf() === before ? code : 1
      }
      process.exit = () => undefined
      setTimeout(() => endProcess(7), 150)`
    expect(end(body)[0]).toBe(7)
  })

  it('the end of a short command costs nothing', () => {
    // As the installed program has it, which strips no types.
    const body = `process.uptime = () => 0.05
      process.memoryUsage = () => ({ heapUsed: 7_000_000, external: 3_000_000 })
      process.stdout.write('end:')
      endProcess(3)`
    expect(end(body)).toEqual([3, false])
  })
})
