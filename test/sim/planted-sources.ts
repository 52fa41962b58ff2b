/**
 * Bugs put in on purpose by replacing pieces of the sources; a run of the simulation is bundled with them. A piece that is no longer
 * there fails, so that a bug stays planted when the code moves.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { build, type Plugin } from 'esbuild'

const root = resolve(import.meta.dirname, '../..')

export interface Change {
  readonly file: string
  readonly from: string
  readonly to: string
}

/** The module at `entry`, from the root of the repository, with the bug in it; `end` takes away what was made for it. */
export async function bundlePlanted(
  entry: string,
  changes: readonly Change[],
): Promise<{ readonly module: unknown; readonly end: () => void }> {
  // Below node_modules, so that packages with native code are found.
  const directory = mkdtempSync(join(root, 'node_modules', '.planted-'))
  const outfile = join(directory, 'planted.mjs')
  const end = (): void => rmSync(directory, { recursive: true, force: true })
  try {
    const planted = new Set<Change>()
    await build({
      absWorkingDir: root,
      entryPoints: [entry],
      outfile,
      bundle: true,
      platform: 'node',
      target: 'node24',
      format: 'esm',
      packages: 'external',
      plugins: [replacing(changes, planted)],
      logLevel: 'silent',
    })
    const missing = changes.find((change) => !planted.has(change))
    if (missing !== undefined) throw new Error(`${missing.file} is not part of the run`)
    return { module: await import(outfile), end }
  } catch (error) {
    end()
    throw error
  }
}

function replacing(changes: readonly Change[], planted: Set<Change>): Plugin {
  return {
    name: 'planted-bug',
    setup(builder) {
      builder.onLoad({ filter: /\.ts$/ }, ({ path }) => {
        const name = relative(root, path)
        const own = changes.filter(({ file }) => file === name)
        if (own.length === 0) return undefined
        let contents = readFileSync(path, 'utf8')
        for (const change of own) {
          const parts = contents.split(change.from)
          if (parts.length !== 2) throw new Error(`${name}: not there once: ${change.from}`)
          contents = parts.join(change.to)
          planted.add(change)
        }
        return { contents, loader: 'ts' }
      })
    },
  }
}
