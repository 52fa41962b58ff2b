import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { RealHost } from '../../../src/io/real-host.ts'

const root = mkdtempSync(join(tmpdir(), 'stream-host-'))
const hostModule = join(import.meta.dirname, '../../../src/io/real-host.ts')

afterAll(() => rmSync(root, { recursive: true, force: true }))

function run(code: string): ReturnType<typeof spawnSync> {
  const program = `import { RealHost } from ${JSON.stringify(hostModule)}; const host = new RealHost(); ${code}`
  return spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' })
}

describe('RealHost', () => {
  it.each(['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGPIPE'])('dies by %s, whoever listens', (signal) => {
    const result = run(
      `if (${signal !== 'SIGPIPE'}) host.onSignal('${signal}', () => undefined); host.dieBySignal('${signal}')`,
    )
    expect(result.signal).toBe(signal)
  })

  it('exits at once with the code, whatever is pending', () => {
    expect(run('setInterval(() => undefined, 1000); host.exit(7)').status).toBe(7)
  })

  it('a signal goes to the listener until the subscription ends', () => {
    const result = run(
      `const end = host.onSignal('SIGTERM', () => { end(); host.dieBySignal('SIGTERM') });
       setInterval(() => undefined, 1000); process.kill(process.pid, 'SIGTERM')`,
    )
    expect(result.signal).toBe('SIGTERM')
  })

  it('writes a file whole, with its mode, and leaves nothing beside it', () => {
    const host = new RealHost()
    const path = join(root, 'file')
    host.writeFile(path, new TextEncoder().encode('one'))
    host.writeFile(path, new TextEncoder().encode('two'))
    expect(new TextDecoder().decode(host.readFile(path))).toBe('two')
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(readdirSync(root)).toEqual(['file'])
    expect(host.stat(path)).toMatchObject({ kind: 'file', mode: 0o600, sizeBytes: 3 })
    host.removeFile(path)
    host.removeFile(path)
    expect(host.stat(path)).toBeUndefined()
    expect(host.readFile(path)).toBeUndefined()
  })

  it('says what cannot be written, and leaves nothing beside it', () => {
    const host = new RealHost()
    expect(() => host.writeFile(join(root, 'none', 'file'), new Uint8Array(1))).toThrow(
      expect.objectContaining({ code: 'FILE_NOT_FOUND' }),
    )
    writeFileSync(join(root, 'plain'), '')
    expect(() => host.makeDirectory(join(root, 'plain', 'x'))).toThrow(
      expect.objectContaining({ code: 'FILE_NOT_FOUND' }),
    )
    host.makeDirectory(join(root, 'a', 'b'))
    expect(host.stat(join(root, 'a', 'b'))).toMatchObject({ kind: 'directory', mode: 0o700 })
  })

  it('knows what is no terminal', () => {
    const result = run(
      `process.stdout.write(JSON.stringify([host.isTerminal('input'), host.isTerminal('output'), host.columns('output') ?? null]))`,
    )
    expect(JSON.parse(String(result.stdout))).toEqual([false, false, null])
  })
})
