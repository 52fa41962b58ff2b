/** The README's tour, run as it stands there: each `$` line in bash, its output compared. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readmeSection } from '../support/growing.ts'
import { Program } from '../support/program.ts'

interface Step {
  readonly command: string
  readonly output: string
}

function tourSteps(): Step[] {
  const text = readmeSection('A tour')
  const steps: { command: string; output: string }[] = []
  for (const block of text.matchAll(/```console\n([\s\S]*?)```/g)) {
    for (const line of (block[1] ?? '').split('\n').slice(0, -1)) {
      const last = steps.at(-1)
      if (line.startsWith('$ ')) steps.push({ command: line.slice(2), output: '' })
      else if (last !== undefined) last.output += `${line}\n`
    }
  }
  return steps
}

describe("README: the tour's lines print what it says", () => {
  let program: Program
  beforeAll(() => {
    program = new Program()
  })
  afterAll(() => program.stop())

  const steps = tourSteps()
  it('has a tour', () => expect(steps.length).toBeGreaterThan(10))
  for (const [index, step] of steps.entries())
    it(`${index + 1}: ${step.command}`, () => {
      expect(program.shell(step.command).stdout).toBe(step.output)
    })
})
