/**
 * The daemon as a process: options, real ports, signals, exit code. Everything else is daemon/doors/daemon.ts, which runs
 * in the simulation as it does here.
 *
 *     node daemon/main.ts [--data DIR] [--listen ADDRESS]... [--node-id N] [--ephemeral] [--restored] [-X KEY=VALUE]...
 *                         [--etcd URL,... [--cluster NAME] [--advertise ADDRESS]...]
 *
 * On stdout it prints its address, and that only with --ephemeral; diagnostics go to stderr. A failure is one line there
 * and the exit code of its error; an end by SIGTERM, SIGINT, SIGHUP or DaemonStop is 0.
 */

import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { homedir, hostname, tmpdir } from 'node:os'
import { isAbsolute, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { isStreamError, StreamError, UsageError } from '../src/base/errors.ts'
import type { ProgramOptions } from '../src/client/secrets.ts'
import type { SourceAccess } from '../src/client/source-context.ts'
import { configVariable } from '../src/config/config-key.ts'
import { findKey, keysOf, unknownKeyMessage } from '../src/config/keys.ts'
import { CurveKeyring } from '../src/io/curve-keyring.ts'
import { readBootId } from '../src/io/daemon-process.ts'
import { EmbeddedStore } from '../src/io/embedded-store.ts'
import { isEtcdAway } from '../src/io/etcd-errors.ts'
import { type EtcdOptions, etcdSettingsOf, readEtcdOptions } from '../src/io/etcd-options.ts'
import { EtcdStore } from '../src/io/etcd-store.ts'
import { readOpenFileLimit } from '../src/io/open-file-limit.ts'
import { endProcess } from '../src/io/process-end.ts'
import { RealDisk } from '../src/io/real-disk.ts'
import { RealNet } from '../src/io/real-net.ts'
import { RealRandom } from '../src/io/real-random.ts'
import { RealTime } from '../src/io/real-time.ts'
import { notifyServiceManager } from '../src/io/service-notify.ts'
import { putStartingFile } from '../src/io/starting-file.ts'
import { StderrLog } from '../src/io/stderr-log.ts'
import { diskError } from '../src/io/system-errors.ts'
import type { Log } from '../src/ports/log.ts'
import type { TlsOptions } from '../src/ports/net.ts'
import type { Random } from '../src/ports/random.ts'
import { sleep, type Time } from '../src/ports/time.ts'
import { assertProtected } from './doors/address-rule.ts'
import { advertisedEndpoints } from './doors/advertised.ts'
import { startDaemon } from './doors/daemon.ts'
import { makeDurably } from './log/data-directory.ts'
import { clusterIdOf, DEFAULT_CLUSTER } from './metadata/cluster-name.ts'
import { RepeatedWarning } from './metadata/repeated-warning.ts'
import { shareOpenFiles, warnOfFewOpenFiles } from './open-file-shares.ts'
import { listenForStopSignals } from './stop-signals.ts'

const STOP_GRACE_MS = 10_000
const ETCD_PAUSE_MS = 2000
const EXIT_FAILED = 1
const EXIT_USAGE = 2
const NODE_ID_MAX = 0x7fffffff
/** A configuration key that is also the client's: from files and variables it is meant for the client alone. */
const isAlsoClientKey = (name: string): boolean => findKey('client', name) !== undefined

interface Options {
  readonly dataDirectory: string
  readonly listen: readonly string[]
  readonly nodeId: number
  readonly isRestored: boolean
  readonly config: ReadonlyMap<string, string>
  /** undefined: a single daemon. */
  readonly cluster: ClusterOptions | undefined
  /** Its own temporary directory, removed at the end; undefined: the data stay. */
  readonly ephemeralDirectory: string | undefined
}

interface ClusterOptions {
  readonly etcd: EtcdOptions
  readonly name: string
  readonly advertise: readonly string[]
}

const environment = process.env
const disk = new RealDisk()

/** @throws UsageError, StreamError CONFIG_INVALID, PERMISSION_DENIED */
function readOptions(args: readonly string[]): Options {
  const flags = readFlags(args)
  if (flags.positionals.length > 0) {
    throw new UsageError(`unexpected argument ${flags.positionals[0]}`, 'stream daemon --help')
  }
  const { values } = flags
  const isEphemeral = values.ephemeral === true
  if (isEphemeral && values.data !== undefined) {
    throw new UsageError('--ephemeral brings its own data: leave out --data')
  }
  const nodeIdText = values['node-id'] ?? '1'
  const nodeId = Number(nodeIdText)
  if (!/^\d+$/.test(nodeIdText) || nodeId > NODE_ID_MAX) {
    throw new UsageError(`--node-id ${nodeIdText}: must be a whole number from 0`)
  }
  const config = readConfig(values.option ?? [])
  const withLines = (addresses: readonly string[]): readonly string[] =>
    config.get('stream.line.enable') === 'false' ? addresses : addLineSocket(addresses)
  const cluster = readCluster(values, config)
  if (cluster !== undefined && values['node-id'] === undefined) {
    throw new UsageError('a daemon of a cluster needs its number: --node-id N')
  }
  const common = { nodeId, isRestored: values.restored === true, config, cluster }
  const listen = values.listen ?? []
  if (isEphemeral) {
    const directory = mkdtempSync(join(tmpdir(), 'stream-'))
    return {
      ...common,
      dataDirectory: join(directory, 'data'),
      listen: withLines([`ipc://${directory}/daemon.sock`, ...listen]),
      ephemeralDirectory: directory,
    }
  }
  return {
    ...common,
    dataDirectory: absolute(values.data ?? defaultDataDirectory()),
    // Local commands find the daemon at its own socket, whatever else it offers.
    listen: withLines(
      listen.some((address) => address.startsWith('ipc://'))
        ? listen
        : [`ipc://${ownRuntimeDirectory()}/daemon.sock`, ...listen],
    ),
    ephemeralDirectory: undefined,
  }
}

function readCluster(
  values: ReturnType<typeof readFlags>['values'],
  config: ReadonlyMap<string, string>,
): ClusterOptions | undefined {
  const { etcd, cluster, advertise = [], ephemeral } = values
  if (etcd === undefined) {
    if (cluster === undefined && advertise.length === 0) return undefined
    throw new UsageError('--cluster and --advertise are for a daemon of a cluster: add --etcd URL')
  }
  if (ephemeral === true) throw new UsageError('--ephemeral and --etcd cannot be used together')
  const settings = etcdSettingsOf(etcd, config, environment)
  return { etcd: readEtcdOptions(settings), name: cluster ?? DEFAULT_CLUSTER, advertise }
}

/** The line protocol's socket stands beside the native one of the usual name, unless another place was given for it. */
function addLineSocket(addresses: readonly string[]): readonly string[] {
  if (addresses.some((address) => address.startsWith('line://'))) return addresses
  const native = addresses.find((address) => /^ipc:\/\/.*\/daemon\.sock$/.test(address))
  if (native === undefined) return addresses
  const directory = native.slice('ipc://'.length, -'/daemon.sock'.length)
  return [...addresses, `line://${directory}/line.sock`]
}

function readFlags(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        data: { type: 'string' },
        listen: { type: 'string', multiple: true },
        'node-id': { type: 'string' },
        ephemeral: { type: 'boolean' },
        restored: { type: 'boolean' },
        etcd: { type: 'string' },
        cluster: { type: 'string' },
        advertise: { type: 'string', multiple: true },
        option: { type: 'string', multiple: true, short: 'X' },
      },
    })
  } catch (error) {
    const [message] = (error instanceof Error ? error.message : String(error)).split('. ')
    throw new UsageError(message ?? 'the command line is wrong', 'stream daemon --help')
  }
}

/** `-X` over variables over files; only keys of the broker. */
function readConfig(settings: readonly string[]): ReadonlyMap<string, string> {
  const texts = new Map<string, string>()
  for (const path of configFiles()) {
    for (const [name, text] of readConfigFile(path)) {
      if (findKey('broker', name) !== undefined && !isAlsoClientKey(name)) texts.set(name, text)
    }
  }
  for (const { name } of keysOf('broker')) {
    const text = environment[configVariable(name)]
    if (text !== undefined && !isAlsoClientKey(name)) texts.set(name, text)
  }
  for (const setting of settings) {
    const cut = setting.indexOf('=')
    if (cut < 1) throw new UsageError(`-X ${setting}: must be KEY=VALUE`)
    const name = setting.slice(0, cut)
    if (findKey('broker', name) === undefined) {
      throw new UsageError(`-X ${unknownKeyMessage('broker', name)}`)
    }
    texts.set(name, setting.slice(cut + 1))
  }
  return texts
}

/** The weakest first. */
function configFiles(): readonly string[] {
  const named = environment['STREAM_CONFIG_FILE']
  const home = environment['XDG_CONFIG_HOME'] || join(homedir(), '.config')
  return ['/etc/stream/stream.conf', named || join(home, 'stream', 'stream.conf')]
}

function readConfigFile(path: string): readonly (readonly [string, string])[] {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch {
    return []
  }
  const entries: (readonly [string, string])[] = []
  for (const line of text.split('\n')) {
    const trimmed = line.trim()
    const cut = trimmed.indexOf('=')
    if (trimmed === '' || trimmed.startsWith('#') || cut < 1) continue
    entries.push([trimmed.slice(0, cut).trim(), trimmed.slice(cut + 1).trim()])
  }
  return entries
}

function defaultDataDirectory(): string {
  const named = environment['STREAM_DATA']
  if (named) return named
  const home = environment['XDG_DATA_HOME']
  if (home) return join(home, 'stream')
  if (process.getuid?.() === 0) return '/var/lib/stream'
  return join(homedir(), '.local', 'share', 'stream')
}

/** The directory of the user's socket: made where absent, and refused where it is not the user's alone. */
function ownRuntimeDirectory(): string {
  const userId = process.getuid?.() ?? 0
  const base = environment['XDG_RUNTIME_DIR']
  const directory = base ? join(base, 'stream') : `/tmp/stream-${userId}`
  disk.makeDirectory(directory, 0o700)
  const stat = statSync(directory)
  if (!stat.isDirectory() || stat.uid !== userId || (stat.mode & 0o777) !== 0o700) {
    throw new StreamError(
      'PERMISSION_DENIED',
      `${directory}: not a directory of yours with mode 0700`,
      { target: directory, hint: `chmod 700 ${directory}, or set XDG_RUNTIME_DIR` },
    )
  }
  return directory
}

function absolute(path: string): string {
  return isAbsolute(path) ? path : resolve(path)
}

function readVersion(): string {
  const here = import.meta.dirname
  try {
    return readFileSync(join(here, 'VERSION'), 'utf8').trim()
  } catch {
    const manifest: unknown = JSON.parse(readFileSync(join(here, '..', 'package.json'), 'utf8'))
    const { version } = manifest as { readonly version?: unknown }
    return typeof version === 'string' ? version : 'unknown'
  }
}

/** A minor collection frees received messages while their memory is still warm (performance.md, section 4). */
function minorCollector(): () => void {
  setFlagsFromString('--expose-gc')
  const collect: unknown = runInNewContext('gc')
  if (typeof collect !== 'function') return () => undefined
  return () => collect({ type: 'minor' })
}

async function joinCluster(options: Options, time: Time, random: Random, log: Log) {
  if (options.cluster === undefined) return undefined
  const { etcd, name, advertise } = options.cluster
  const endpoints = advertisedEndpoints(options.listen, advertise, hostname())
  const store = await EtcdStore.open(time, log, etcd)
  try {
    const clusterId = await clusterIdOf({ store, time }, random, name)
    return { store, cluster: { endpoints, clusterId, asksForWelcome: true } }
  } catch (error) {
    await store.close()
    throw error
  }
}

/** Waits for etcd, however long it is away or full: a daemon that is started with its host must not depend on who is first. */
async function whenEtcdServes<T>(
  options: Options,
  time: Time,
  log: Log,
  begin: () => Promise<T>,
): Promise<T> {
  const trouble = new RepeatedWarning(time, log, 'waiting for etcd')
  for (;;) {
    try {
      return await begin()
    } catch (error) {
      if (options.cluster === undefined || !isEtcdAway(error)) throw error
      trouble.tell(error)
      await sleep(time, ETCD_PAUSE_MS)
    }
  }
}

/** TLS of the Kafka door, where a certificate was named. @throws UsageError; StreamError as TlsServerKeys */
async function readTls(config: ReadonlyMap<string, string>, listen: readonly string[], log: Log) {
  const named = (name: string): string | undefined => {
    const path = config.get(`stream.kafka.tls.${name}.file`)
    return path ? absolute(path) : undefined
  }
  const [certificate, key, clientCa] = [named('certificate'), named('key'), named('client.ca')]
  if (certificate === undefined && key === undefined && clientCa === undefined) return undefined
  if (certificate === undefined || key === undefined) {
    throw new UsageError(
      'TLS at kafka:// needs a certificate and its key',
      'set stream.kafka.tls.certificate.file and stream.kafka.tls.key.file',
    )
  }
  const { TlsServerKeys } = await import('../src/io/tls-server.ts')
  const keys = new TlsServerKeys({ certificate, key, clientCa }, log)
  const hasLogins = (config.get('sasl.enabled.mechanisms') ?? '') !== ''
  if (!hasLogins && clientCa === undefined && listen.some((each) => each.startsWith('kafka:'))) {
    log.warn('kafka:// is encrypted, and lets everybody in: there are no logins', {
      hint: 'sasl.enabled.mechanisms, or stream.kafka.tls.client.ca.file',
    })
  }
  return keys
}

/** For sources of links that ask for TLS or a login: the contexts of the user that this runs as. */
async function openLinkContext(random: Random, log: Log, name: string): Promise<SourceAccess> {
  const { openContext } = await import('../src/client/source-context.ts')
  const { RealHost } = await import('../src/io/real-host.ts')
  const ports = {
    random,
    host: new RealHost(),
    console: { warn: (text: string) => log.warn(text, { context: name }) },
    runProgram: async (words: readonly string[], options: ProgramOptions) =>
      (await import('../src/io/child-program.ts')).runProgram(words, options),
    makeTls: async (options: TlsOptions) =>
      new (await import('../src/io/tls-client.ts')).RealTlsClient(options),
    loadHashes: async () => new (await import('../src/io/real-hashes.ts')).RealHashes(),
  }
  return openContext(ports, name)
}

async function main(): Promise<number> {
  process.umask(0o077)
  const options = readOptions(process.argv.slice(2))
  const { ephemeralDirectory } = options
  try {
    return await serve(options)
  } finally {
    // After a start that was refused too.
    if (ephemeralDirectory !== undefined) {
      rmSync(ephemeralDirectory, { recursive: true, force: true })
    }
  }
}

/** Until it is asked to stop. @returns the exit code */
/** Where it cannot be said the start itself will tell why. @returns takes it back */
async function sayStarting(dataDirectory: string): Promise<() => void> {
  try {
    const isNew = await makeDurably(disk, dataDirectory)
    return putStartingFile(dataDirectory, { isNew })
  } catch {
    return () => undefined
  }
}

async function serve(options: Options): Promise<number> {
  const log = new StderrLog('info')
  const time = new RealTime()
  const { dataDirectory, config } = options
  assertProtected(options.listen, config)
  const keyFile = config.get('stream.curve.key.file')
  const keys = keyFile ? new CurveKeyring(absolute(keyFile), log) : undefined
  const tls = await readTls(config, options.listen, log)
  const { RealHashes } = await import('../src/io/real-hashes.ts')
  let stop: (why: string) => void = () => undefined
  const stopAsked = new Promise<string>((resolve) => {
    stop = resolve
  })
  const openFileLimit = readOpenFileLimit()
  const shares = shareOpenFiles(openFileLimit)
  warnOfFewOpenFiles(log, openFileLimit)
  const random = new RealRandom()
  let fenced: StreamError | undefined
  const onFenced = (error: StreamError): void => {
    fenced = error
    stop(error.message)
  }
  const removeStartingFile = await sayStarting(dataDirectory)
  const daemon = await whenEtcdServes(options, time, log, async () => {
    const joined = await joinCluster(options, time, random, log)
    return startDaemon(
      {
        time,
        random,
        disk,
        net: new RealNet({
          ...(keys === undefined ? {} : { server: keys, client: keys.client }),
          tls,
        }),
        hashes: new RealHashes(),
        openContext: (name) => openLinkContext(random, log, name),
        store:
          joined?.store ??
          ((lendRoom) =>
            EmbeddedStore.open(time, { directory: join(dataDirectory, 'metadata'), lendRoom })),
        log,
      },
      {
        ...(joined === undefined ? {} : { cluster: { ...joined.cluster, onFenced } }),
        dataDirectory,
        listen: options.listen,
        nodeId: options.nodeId,
        config: options.config,
        bootId: options.config.get('stream.boot.id') ?? readBootId(),
        restored: options.isRestored,
        pid: process.pid,
        version: readVersion(),
        advertisedHost: hostname(),
        hasBallast: options.ephemeralDirectory === undefined,
        openFilesMax: shares.filesMax,
        connectionsMax: shares.connectionsMax,
        residentBytes: () => process.memoryUsage.rss(),
        collectGarbage: minorCollector(),
        onStopAsked: () => stop('asked by a client'),
      },
    )
  }).finally(removeStartingFile)
  // Before anybody hears that it serves: whoever has read that may ask it to stop at once.
  listenForStopSignals(process, time, stop, () => endProcess(EXIT_FAILED))
  const pidFile = join(dataDirectory, 'daemon.pid')
  try {
    writeFileSync(pidFile, `${process.pid}\n`)
  } catch (error) {
    // For people and scripts only: no reason not to serve.
    log.warn('the process id could not be written down', {
      error: diskError(error, 'write', pidFile).message,
    })
  }
  log.info('serving', { addresses: daemon.addresses.join(' '), data: dataDirectory })
  if (options.ephemeralDirectory !== undefined) {
    process.stdout.write(`${daemon.addresses[0]}\n`)
  }
  notifyServiceManager(environment, log, 'ready', `serving ${daemon.addresses.join(' ')}`)
  const why = await stopAsked
  log.info('stopping', { why })
  notifyServiceManager(environment, log, 'stopping', 'closing the logs')
  try {
    await daemon.stop({ graceMs: STOP_GRACE_MS })
  } finally {
    removePidFile(pidFile, log)
    if (options.ephemeralDirectory !== undefined) removeSockets(options.listen)
  }
  log.info('stopped')
  if (fenced !== undefined) throw fenced
  return 0
}

/** Where they were bound: at an address that was refused another daemon may serve. */
function removeSockets(listen: readonly string[]): void {
  for (const address of listen) {
    if (address.startsWith('ipc://')) rmSync(address.slice('ipc://'.length), { force: true })
  }
}

/** The disk may be gone by now, and that is told already by what it broke. */
function removePidFile(path: string, log: Log): void {
  try {
    rmSync(path, { force: true })
  } catch (error) {
    log.warn('the process id could not be taken away', {
      error: diskError(error, 'remove', path).message,
    })
  }
}

function report(error: unknown): number {
  if (error instanceof UsageError || isStreamError(error)) {
    const hint = error.hint === undefined ? '' : `; ${error.hint}`
    process.stderr.write(`stream: daemon: ${error.message.replaceAll('\n', ' ')}${hint}\n`)
    return error instanceof UsageError ? EXIT_USAGE : error.exit
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  process.stderr.write(`stream: daemon: ${text}\n`)
  return EXIT_FAILED
}

// Nothing may keep the process alive then: what counts is written down.
void main()
  .catch(report)
  .then((code) => endProcess(code))
