/**
 * Builds `dist/`: one bundled CommonJS file for the commands, one for the daemon, and the man pages. Bundles start
 * faster than sources (test/bench, "start"), and Node strips no types under node_modules.
 * Packages with native code stay outside the bundle and are found beside it, in node_modules.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { build } from 'esbuild'
import packageJson from './package.json' with { type: 'json' }
import { zeromqPlugin } from './build-zeromq.mjs'

const outDirectory = 'dist'
rmSync(outDirectory, { recursive: true, force: true })
mkdirSync(outDirectory, { recursive: true })

const shared = {
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'cjs',
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: 'none',
  external: ['lmdb', '@node-rs/crc32', 'lz4-napi', 'snappy'],
  define: { 'import.meta.url': '__filename' },
  plugins: [zeromqPlugin()],
  logLevel: 'warning',
}

await Promise.all([
  build({ ...shared, entryPoints: ['cmd/main.ts'], outfile: `${outDirectory}/stream.cjs`, banner: { js: '#!/usr/bin/env node' } }),
  build({ ...shared, entryPoints: ['daemon/main.ts'], outfile: `${outDirectory}/daemon.cjs` }),
])
writeFileSync(`${outDirectory}/VERSION`, `${packageJson.version}\n`)
