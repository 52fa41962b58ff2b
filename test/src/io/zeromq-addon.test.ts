import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from 'esbuild'
import { afterAll, describe, expect, it } from 'vitest'
import { loadZeromq } from '../../../src/io/zeromq-addon.ts'
import { findZeromqAddon } from '../../../src/io/zeromq-manifest.ts'

const root = mkdtempSync(join(tmpdir(), 'stream-addon-'))
const topLevel = join(import.meta.dirname, '../../..')

afterAll(() => rmSync(root, { recursive: true, force: true }))

describe('loadZeromq', () => {
  it('finds the binary that fits, with the draft that notices of disconnects need', () => {
    const addon = loadZeromq()
    expect(addon.version).toMatch(/^4\.3\./)
    expect(addon.capability).toMatchObject({ draft: true, curve: true })
    expect(loadZeromq()).toBe(addon)
  })

  it('chooses the same binary as the package itself would', () => {
    const packageJson = createRequire(import.meta.url).resolve('zeromq')
    expect(existsSync(findZeromqAddon(join(packageJson, '..', '..')))).toBe(true)
  })

  it('a machine without a binary is RUNTIME_MISSING', () => {
    const directory = mkdtempSync(join(root, 'package'))
    spawnSync('mkdir', [join(directory, 'build')])
    writeFileSync(join(directory, 'build', 'manifest.json'), '{}')
    expect(() => findZeromqAddon(directory)).toThrow(
      expect.objectContaining({ code: 'RUNTIME_MISSING' }),
    )
  })

  it('a bundle loads it by the path fixed at the build, and searches nothing', async () => {
    const plugin = (await import(join(topLevel, 'build/zeromq-plugin.mjs'))) as {
      zeromqPlugin: () => import('esbuild').Plugin
    }
    const outfile = join(root, 'bundle.cjs')
    await build({
      stdin: {
        contents: `import { loadZeromq } from './src/io/zeromq-addon.ts'; console.log(loadZeromq().version, process.moduleLoadList.includes('NativeModule module'))`,
        resolveDir: topLevel,
        loader: 'ts',
      },
      outfile,
      bundle: true,
      platform: 'node',
      format: 'cjs',
      minifySyntax: true,
      define: { 'import.meta.url': 'undefined' },
      plugins: [plugin.zeromqPlugin()],
    })
    const result = spawnSync(process.execPath, [outfile], { encoding: 'utf8', cwd: '/' })
    expect(result.stderr).toBe('')
    // A search needs node:module.
    expect(result.stdout.trim()).toBe(`${loadZeromq().version} false`)
  })
})
