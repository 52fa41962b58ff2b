import { describe, expect, it } from 'vitest'
import { shareOpenFiles, warnOfFewOpenFiles } from '../../daemon/open-file-shares.ts'

describe('shareOpenFiles', () => {
  it('gives the logs all they can use where there is plenty', () => {
    expect(shareOpenFiles(65_536)).toEqual({ filesMax: 512, connectionsMax: 32_768 })
    expect(shareOpenFiles(undefined)).toEqual({ filesMax: 512, connectionsMax: Infinity })
  })

  it('leaves a part to connections and to the process itself where there is little', () => {
    for (const limit of [64, 90, 200, 1024, 2047]) {
      const { filesMax, connectionsMax } = shareOpenFiles(limit)
      expect(filesMax).toBeGreaterThanOrEqual(8)
      expect(filesMax + connectionsMax).toBeLessThanOrEqual(Math.ceil(limit * 0.75))
    }
  })
})

describe('warnOfFewOpenFiles', () => {
  it('tells of a small limit and what to do, and is silent otherwise', () => {
    const said: unknown[] = []
    const log = {
      debug: () => undefined,
      info: () => undefined,
      warn: (text: string, fields?: object) => said.push({ text, ...fields }),
      error: () => undefined,
    }
    warnOfFewOpenFiles(log, 65_536)
    warnOfFewOpenFiles(log, undefined)
    expect(said).toEqual([])
    warnOfFewOpenFiles(log, 1024)
    expect(said).toEqual([
      {
        text: expect.stringContaining('at most 1024 files'),
        hint: expect.stringContaining('ulimit -Hn'),
      },
    ])
  })
})
