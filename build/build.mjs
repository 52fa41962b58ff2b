/**
 * Builds `dist/`: one bundled CommonJS file for the commands, one for the daemon, the code cache of the first, and the man
 * pages. Bundles start faster than sources, a code cache halves the rest (test/bench, "start-up"), and Node strips no
 * types under node_modules. Packages with native code stay outside the bundle and are found beside it, in node_modules.
 */
import { execFileSync, spawn } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { build } from 'esbuild'
import packageJson from '../package.json' with { type: 'json' }
import { zeromqAddonPath, zeromqPlugin } from './zeromq-plugin.mjs'

const root = resolve(import.meta.dirname, '..')
const dist = join(root, 'dist')
rmSync(dist, { recursive: true, force: true })
mkdirSync(dist, { recursive: true })

const shared = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'cjs',
  minify: true,
  // Names are shown in stack traces (-vv) and profiles.
  keepNames: false,
  legalComments: 'none',
  charset: 'ascii',
  external: ['lmdb', '@node-rs/crc32', 'lz4-napi', 'snappy'],
  define: { 'import.meta.url': '__filename' },
  plugins: [zeromqPlugin()],
  logLevel: 'warning',
}

await Promise.all([
  build({ ...shared, entryPoints: ['cmd/main.ts'], outfile: join(dist, 'stream-main.cjs') }),
  build({ ...shared, entryPoints: ['daemon/main.ts'], outfile: join(dist, 'daemon.cjs') }),
])
// The loader compiles the bundle by itself, as the module wrapper would.
const main = join(dist, 'stream-main.cjs')
const source = readFileSync(main, 'latin1')
writeFileSync(
  main,
  `(function (exports, require, module, __filename, __dirname) {${source}\n})`,
  'latin1',
)
copyFileSync(join(import.meta.dirname, 'loader.cjs'), join(dist, 'stream.cjs'))

// For install.sh: the one file of the package zeromq that a bundle loads, below node_modules.
writeFileSync(
  join(dist, 'ZEROMQ_ADDON'),
  `${relative(join(root, 'node_modules'), zeromqAddonPath())}\n`,
)
writeFileSync(join(dist, 'VERSION'), `${packageJson.version}\n`)
execFileSync(process.execPath, [join(root, 'man/generate.ts'), join(dist, 'man')], {
  stdio: 'inherit',
})
await makeCodeCache()

/** Of a run that sends one record to a daemon of its own: what the most frequent short commands compile. */
async function makeCodeCache() {
  const daemon = spawn(process.execPath, [join(dist, 'daemon.cjs'), '--ephemeral'], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, STREAM_CONF_LOG_DIR_RESERVE_BYTES: '0' },
  })
  let said = ''
  daemon.stderr.on('data', (text) => {
    said += text
  })
  const ended = new Promise((done) => daemon.once('close', done))
  try {
    const address = await new Promise((done, fail) => {
      daemon.stdout.once('data', (line) => done(String(line).trim()))
      void ended.then((code) =>
        fail(new Error(`the daemon of the build ended with ${code}: ${said}`)),
      )
    })
    execFileSync(
      process.execPath,
      [
        join(import.meta.dirname, 'make-code-cache.cjs'),
        dist,
        '--',
        'produce',
        'cache',
        '-b',
        address,
      ],
      { input: 'x\n', stdio: ['pipe', 'inherit', 'inherit'] },
    )
  } finally {
    daemon.kill('SIGTERM')
    await ended
  }
}
