import { describe, expect, it } from 'vitest'
import { commands } from '../../cmd/commands.ts'
import { helpTopics } from '../../cmd/help-topics.ts'
import { allOptions } from '../../cmd/option-table.ts'
import { escapeRoff, makeManPages } from '../../man/pages.ts'

describe('the manual', () => {
  it('has a page for every command, with every flag, column and example of it', async () => {
    const pages = new Map((await makeManPages('1.2.3')).map((page) => [page.fileName, page.roff]))
    for (const entry of commands) {
      const { spec } = await entry.load()
      const roff = pages.get(`stream-${entry.name.replaceAll(' ', '-')}.1`) ?? ''
      for (const option of allOptions(spec)) {
        expect(roff, `${entry.name} --${option.long}`).toContain(escapeRoff(`--${option.long}`))
        expect(roff).toContain(escapeRoff(option.help))
      }
      for (const example of spec.examples) expect(roff).toContain(escapeRoff(example.line))
      for (const column of spec.columns ?? []) expect(roff).toContain(column)
      expect(pages.get('stream.1')).toContain(escapeRoff(entry.name))
    }
    for (const topic of helpTopics) expect(pages.has(`stream-${topic.name}.7`)).toBe(true)
  })

  it('no line is a request by accident', async () => {
    const requests = /^\.(TH|SH|TP|PP|B|nf|fi)( |$)/
    for (const { fileName, roff } of await makeManPages('1.2.3')) {
      for (const line of roff.split('\n')) {
        if (/^[.']/.test(line)) expect(line, fileName).toMatch(requests)
      }
    }
    expect(escapeRoff('.a -b \\n')).toBe('\\&.a \\-b \\en')
  })
})
