/**
 * Builds `dist/`: bundled CommonJS files for the commands, the daemon and what works on its files, the library as a module with
 * its types, code caches of the commands, and the man pages. Bundles start faster than sources, a code cache halves the rest
 * (test/bench, "start-up"), and Node strips no
 * types under node_modules. Packages with native code stay outside the bundle and are found beside it, in node_modules.
 */
import { deepStrictEqual } from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative, resolve } from 'node:path'
import { Script } from 'node:vm'
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
  plugins: [zeromqPlugin(), lazySchemas(), withoutChildProcess()],
  logLevel: 'warning',
}

/** Commands that start often and must start fast have bundles of their own (loader.cjs chooses), with nothing else in them. */
const hotBundles = { produce: ['produce'], read: ['consume', 'cat', 'tail'] }

await Promise.all([
  build({ ...shared, entryPoints: ['cmd/main.ts'], outfile: join(dist, 'stream-main.cjs') }),
  ...Object.entries(hotBundles).map(([name, commands]) =>
    build({
      ...shared,
      plugins: [zeromqPlugin(), lazySchemas(), onlyCommands(commands)],
      entryPoints: ['cmd/main.ts'],
      outfile: join(dist, `stream-${name}.cjs`),
    }),
  ),
  build({
    ...shared,
    plugins: [...shared.plugins, grpcBeside()],
    entryPoints: ['daemon/main.ts'],
    outfile: join(dist, 'daemon.cjs'),
  }),
  // What the daemon of a cluster loads to speak to etcd.
  build({ ...shared, entryPoints: ['src/io/grpc.ts'], outfile: join(dist, 'grpc.cjs') }),
  // The thread that keeps the session of a cluster's daemon alive.
  build({
    ...shared,
    plugins: [...shared.plugins, grpcBeside()],
    entryPoints: ['src/io/lease-worker.ts'],
    outfile: join(dist, 'lease-worker.cjs'),
  }),
  // What dump and fsck load: the log's code, which no other command needs.
  build({ ...shared, entryPoints: ['daemon/offline/main.ts'], outfile: join(dist, 'offline.cjs') }),
  // What `cluster adopt` loads: both homes of the metadata.
  build({
    ...shared,
    plugins: [...shared.plugins, grpcBeside()],
    entryPoints: ['daemon/offline/adopt-main.ts'],
    outfile: join(dist, 'adopt.cjs'),
  }),
  // What exec, pipe and txn load: the package that starts programs.
  build({
    ...shared,
    entryPoints: ['src/io/real-children.ts'],
    outfile: join(dist, 'children.cjs'),
  }),
  // What commands with a live screen load. A module: parts of ink wait while they are loaded.
  build({
    ...shared,
    entryPoints: ['src/io/ink-screen.ts'],
    outfile: join(dist, 'screen.js'),
    format: 'esm',
    define: { 'process.env.NODE_ENV': '"production"', 'process.env.DEV': '"false"' },
    banner: {
      js: "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);",
    },
    plugins: [withoutDevelopmentTools()],
  }),
  // The library: a module of its own, loaded by scripts.
  build({
    ...shared,
    entryPoints: ['src/library/index.ts'],
    outfile: join(dist, 'index.js'),
    format: 'esm',
    // Node shows the line that an uncaught error was thrown from: not half of the bundle.
    lineLimit: 160,
    define: {},
    plugins: [zeromqPlugin({ isModule: true })],
  }),
])
copyFileSync(join(root, 'src/library/public.d.ts'), join(dist, 'index.d.ts'))
// The loader compiles a bundle by itself, as the module wrapper would.
for (const name of ['main', ...Object.keys(hotBundles)]) {
  const path = join(dist, `stream-${name}.cjs`)
  const source = readFileSync(path, 'latin1')
  writeFileSync(
    path,
    `(function (exports, require, module, __filename, __dirname) {${source}\n})`,
    'latin1',
  )
}
copyFileSync(join(import.meta.dirname, 'loader.cjs'), join(dist, 'stream.cjs'))
copyFileSync(join(import.meta.dirname, 'import.cjs'), join(dist, 'import.cjs'))

// For install.sh: the one file of the package zeromq that a bundle loads, below node_modules.
writeFileSync(
  join(dist, 'ZEROMQ_ADDON'),
  `${relative(join(root, 'node_modules'), zeromqAddonPath())}\n`,
)
writeFileSync(join(dist, 'VERSION'), `${packageJson.version}\n`)
execFileSync(process.execPath, [join(root, 'man/generate.ts'), join(dist, 'man')], {
  stdio: 'inherit',
})
await makeCodeCaches()

/**
 * An esbuild plugin: the table of APIs with each message's fields in a function of its own, which is compiled when the API is first
 * spoken: a command speaks five of seventy, and the literals of the others cost it 2 ms.
 */
function lazySchemas() {
  const literal = (value) => {
    const text = JSON.stringify(value)
    deepStrictEqual(JSON.parse(text), value)
    return text
  }
  return {
    name: 'lazy-schemas',
    setup(builder) {
      builder.onLoad({ filter: /\/protocol\/api-table\.ts$/ }, async ({ path }) => {
        const { apiTable } = await import(path)
        const rows = Object.entries(apiTable).map(
          ([name, { key, min, max, flexibleFrom, request, response }]) =>
            `${name}: { key: ${key}, min: ${min}, max: ${max}, flexibleFrom: ${flexibleFrom}, get request() { return ${literal(request)} }, get response() { return ${literal(response)} } },`,
        )
        const source = readFileSync(path, 'utf8')
        const start = source.indexOf('export const apiTable = {')
        const end = source.indexOf('} as const satisfies')
        if (start < 0 || end < start) throw new Error(`${path}: the table is not found`)
        const rest = source.slice(source.indexOf('\n', end))
        return {
          contents: `export const apiTable = {\n${rows.join('\n')}\n}\n${rest}`,
          loader: 'ts',
        }
      })
    },
  }
}

/** An esbuild plugin: the table of commands with these alone, and without the pages of help, which the loader never asks of it. */
function onlyCommands(commands) {
  return {
    name: 'only-commands',
    setup(builder) {
      builder.onLoad({ filter: /\/cmd\/commands\.ts$/ }, ({ path }) => {
        const rows = readFileSync(path, 'utf8')
          .split('\n')
          .filter((line) => {
            const row = /^ {2}\{ name: '([^']*)'/.exec(line)
            return row === null || commands.includes(row[1])
          })
        return { contents: rows.join('\n'), loader: 'ts' }
      })
      builder.onLoad({ filter: /\/cmd\/help(-[a-z]+)?\.ts$/ }, () => ({
        contents: "throw new Error('the pages of help are in another bundle')",
        loader: 'ts',
      }))
    },
  }
}

/** An esbuild plugin: gRPC is loaded from the bundle beside this one, when it is asked for (src/io/etcd-store.ts). */
function grpcBeside() {
  return {
    name: 'grpc-beside',
    setup(builder) {
      builder.onResolve({ filter: /\/grpc\.ts$/ }, () => ({ path: './grpc.cjs', external: true }))
    },
  }
}

/** An esbuild plugin: what ink loads to be looked at by React's own tools, which nobody installs here. */
function withoutDevelopmentTools() {
  return {
    name: 'ink-without-development-tools',
    setup(builder) {
      builder.onLoad({ filter: /\/ink\/build\/devtools\.js$/ }, () => ({
        contents: '',
        loader: 'js',
      }))
    },
  }
}

/** An esbuild plugin: commander starts programs only for subcommands in files of their own, which we have none of. */
function withoutChildProcess() {
  return {
    name: 'commander-without-child-process',
    setup(builder) {
      builder.onLoad({ filter: /\/commander\/lib\/command\.js$/ }, ({ path }) => ({
        contents: readFileSync(path, 'utf8').replace(
          "const childProcess = require('node:child_process');",
          'const childProcess = undefined;',
        ),
        loader: 'js',
      }))
    },
  }
}

/**
 * Runs real commands, as a user does: with the default socket, and pipes for their input and output. What each has compiled is
 * added to its cache; everything in a cache costs those that do not use it, so these are what scripts run most.
 */
async function makeCodeCaches() {
  const scratch = mkdtempSync(join(tmpdir(), 'stream-build-'))
  const environment = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('STREAM_')),
  )
  for (const name of ['HOME', 'XDG_DATA_HOME', 'XDG_CONFIG_HOME', 'XDG_RUNTIME_DIR'])
    environment[name] = scratch
  const socket = `ipc://${join(scratch, 'stream', 'daemon.sock')}`
  const daemon = spawn(
    process.execPath,
    [join(dist, 'daemon.cjs'), '--ephemeral', '--listen', socket],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...environment, STREAM_CONF_LOG_DIR_RESERVE_BYTES: '0' },
    },
  )
  let said = ''
  daemon.stderr.on('data', (text) => {
    said += text
  })
  const ended = new Promise((done) => daemon.once('close', done))
  try {
    await new Promise((done, fail) => {
      daemon.stdout.once('data', done)
      void ended.then((code) =>
        fail(new Error(`the daemon of the build ended with ${code}: ${said}`)),
      )
    })
    const make = (bundle, cache, lines) => {
      for (const line of lines) makeCodeCache(bundle, cache, line.split(' '), environment)
    }
    make('produce', 'produce', ['produce cache'])
    make('read', 'read', ['cat cache', 'tail cache'])
    make('main', 'main', [
      'topics list',
      'topics create cache --if-not-exists',
      'topics describe cache',
      'groups list',
      'daemon status',
    ])
    make('main', 'help', ['--help', 'produce --help'])
  } finally {
    daemon.kill('SIGTERM')
    await ended
    rmSync(scratch, { recursive: true })
  }
}

/** Goes on from what the cache holds already. */
function makeCodeCache(bundleName, cacheName, words, environment) {
  const bundle = join(dist, `stream-${bundleName}.cjs`)
  const cache = join(dist, `stream-${cacheName}.cache`)
  const script = join(import.meta.dirname, 'make-code-cache.cjs')
  execFileSync(
    'sh',
    [
      '-c',
      'echo x | "$@" | cat >/dev/null',
      'sh',
      process.execPath,
      script,
      bundle,
      cache,
      '--',
    ].concat(words),
    { stdio: ['ignore', 'ignore', 'inherit'], env: environment },
  )
  // Only a run that ended well has left one.
  renameSync(`${cache}.new`, cache)
  // V8 says nothing of a cache that it refuses: the command would only start 10 ms later, for ever.
  const { cachedDataRejected } = new Script(readFileSync(bundle, 'latin1'), {
    filename: bundle,
    cachedData: readFileSync(cache),
  })
  if (cachedDataRejected) throw new Error(`the code cache ${cache} is refused`)
}
