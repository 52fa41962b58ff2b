import { describe, expect, it } from 'vitest'
import { exitCodes } from '../../cmd/exit-code.ts'
import { explain } from '../../cmd/explain.ts'
import { helpTopicNames } from '../../cmd/help-topic-names.ts'
import { helpTopics } from '../../cmd/help-topics.ts'
import { errorTable } from '../../src/base/errors.ts'
import { kafkaErrors } from '../../src/protocol/errors.ts'
import { World } from './fake-world.ts'

describe('explain', () => {
  it('a Kafka error by name, in any case, and by number', async () => {
    const byName = await new World().run('explain', 'rebalance_in_progress')
    expect(byName.exit).toBe(0)
    expect(byName.stdout).toContain('REBALANCE_IN_PROGRESS (Kafka error 27)\nMeaning   The group')
    expect(byName.stdout).toContain('\nTo do     ')
    expect((await new World().run('explain', '27')).stdout).toBe(byName.stdout)
    expect((await new World().run('explain', '-1')).stdout).toContain('UNKNOWN_SERVER_ERROR')
  })

  it('an exit code, a signal, an error of our own', async () => {
    expect((await new World().run('explain', 'exit', '5')).stdout).toContain('through_line')
    expect((await new World().run('explain', 'exit', '141')).stdout).toContain('SIGPIPE')
    expect((await new World().run('explain', 'DISK_FULL')).stdout).toContain('exit code 1')
    const object = JSON.parse((await new World().run('explain', 'TIMED_OUT', '--json')).stdout)
    expect(object).toMatchObject({ v: 1, kind: 'explanation', of: 'error', exit: 7 })
  })

  it('every error and every exit code has a meaning and something to do', () => {
    for (const name of [...Object.keys(kafkaErrors), ...Object.keys(errorTable)]) {
      const { meaning, advice } = explain([name])
      expect(meaning, name).toMatch(/\.$/)
      expect(advice, name).toMatch(/\.$/)
    }
    for (const [code] of exitCodes.filter(([known]) => known !== 128)) {
      expect(explain(['exit', String(code)]).advice).not.toBe('')
    }
  })

  it('what is unknown is 3 with the nearest name; nothing is 2', async () => {
    const slip = await new World().run('explain', 'REBALANCE_IN_PROGRES')
    expect(slip).toMatchObject({ exit: 3, stdout: '' })
    expect(slip.stderr).toContain('did you mean REBALANCE_IN_PROGRESS?')
    for (const words of [['9999'], ['exit', '77'], ['exit', 'x'], ['exit', '128']]) {
      expect((await new World().run('explain', ...words)).exit, words.join(' ')).toBe(3)
    }
    for (const words of [[], ['exit'], ['3', '4'], ['exit', '5', '6']]) {
      expect((await new World().run('explain', ...words)).exit, words.join(' ')).toBe(2)
    }
  })

  it('fits the terminal', async () => {
    for (const columns of [80, 40]) {
      const w = new World()
      w.terminals = ['output']
      w.terminalColumns = columns
      const { stdout } = await w.run('explain', 'OFFSET_OUT_OF_RANGE')
      for (const line of stdout.split('\n')) expect(line.length, line).toBeLessThanOrEqual(columns)
    }
  })
})

describe('help topics', () => {
  it('are those that other places name, and fit 80 columns', () => {
    expect(helpTopics.map(({ name }) => name)).toEqual([...helpTopicNames])
    for (const { name, text } of helpTopics) {
      for (const line of text.split('\n')) {
        expect(line.length, `${name}: ${line}`).toBeLessThanOrEqual(80)
      }
    }
  })
})
