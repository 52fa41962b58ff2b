/**
 * An esbuild plugin that fixes the path of the zeromq addon when a bundle is built: the bundle then loads the one binary that
 * fits this machine and searches nothing at its start (src/io/zeromq-addon.ts).
 */
import { createRequire } from 'node:module'
import { dirname, join, relative, resolve } from 'node:path'
import { findZeromqAddon } from '../src/io/zeromq-manifest.ts'

/** The binary of the package zeromq that fits this machine. */
export function zeromqAddonPath() {
  const require = createRequire(import.meta.url)
  return findZeromqAddon(join(require.resolve('zeromq'), '..', '..'))
}

/** @param options.isModule  the bundle is an ES module, and has import.meta itself */
export function zeromqPlugin({ isModule = false } = {}) {
  return {
    name: 'zeromq-addon',
    setup(build) {
      const options = build.initialOptions
      const addon = zeromqAddonPath()
      const outDirectory = resolve(options.outdir ?? dirname(options.outfile))
      options.define = {
        ...options.define,
        ...(isModule ? {} : { 'import.meta.dirname': '__dirname' }),
        STREAM_ZEROMQ_ADDON: JSON.stringify(relative(outDirectory, addon)),
      }
    },
  }
}
