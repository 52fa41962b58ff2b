import { execFileSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { repository } from '../../support/program.ts'

/** Says which of the fields gave its object a shape that others of the class have not. */
const program = `
  const { LogCore } = await import('./daemon/log/log-core.ts')
  const make = () => new LogCore({ cache: { forLog: () => ({}) } }, {}, {}, {})
  const beyond = 2 ** 33 + 0.5
  const fields = Object.keys(make()).filter((key) => /Offset$|Watermark$|Point$|Floor$|From$/.test(key))
  const changed = fields.filter((key) => {
    const other = make()
    const log = make()
    log[key] = beyond
    return !%HaveSameMap(log, other)
  })
  console.log(JSON.stringify({ fields: fields.length, changed }))
`

describe('the state of a log', () => {
  it('keeps its shape in V8 when an offset comes that is no small integer', () => {
    const said = execFileSync(
      process.execPath,
      ['--allow-natives-syntax', '--input-type=module', '--no-warnings', '-e', program],
      { cwd: repository, encoding: 'utf8' },
    )
    expect(JSON.parse(said)).toEqual({ fields: 10, changed: [] })
  })
})
