/**
 * Apache Kafka's own programs as witnesses: its console tools and clients at our Kafka door, DumpLogSegments over what
 * we wrote, and our reader and commands over what a real broker wrote. Each check asserts contents, not exit codes only.
 *
 *     node test/witness/run.ts [--save] [--kafka VERSION] [tools] [groups] [librdkafka] [logs] [broker] [commands] [acceptance] [cluster] [leaders] [mirror] [links] [rings] [unclean] [mm2] [security]
 *
 * Needs Java 17 and Maven, and Python 3 with pip for `librdkafka`; dist/ is built when missing.
 *
 * --kafka takes another version than pom.xml names. --save writes the table to test/witness/RESULTS.md, of another version to
 * RESULTS-VERSION.md. Exit code: 0 all passed, 1 not, 2 wrong usage.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { daemonBundle, Program, repository, streamBundle } from '../support/program.ts'
import { checkAcceptance } from './jvm-acceptance.ts'
import { checkBroker } from './jvm-broker.ts'
import { type CheckResult, Checks, resultTable } from './jvm-checks.ts'
import { checkCluster } from './jvm-cluster.ts'
import { checkCommands } from './jvm-commands.ts'
import { checkLogs } from './jvm-dump.ts'
import { checkGroups } from './jvm-groups.ts'
import { Kafka } from './jvm-kafka.ts'
import { checkLeaders } from './jvm-leaders.ts'
import { checkLinks } from './jvm-links.ts'
import { checkMirror } from './jvm-mirror.ts'
import { checkMirrorMaker } from './jvm-mirror-maker.ts'
import { checkRings } from './jvm-rings.ts'
import { checkSecurity } from './jvm-security.ts'
import type { Stage } from './jvm-stage.ts'
import { checkTools } from './jvm-tools.ts'
import { checkUnclean } from './jvm-unclean.ts'
import { checkLibrdkafka } from './librdkafka.ts'

const groups: Readonly<Record<string, (stage: Stage, checks: Checks) => Promise<void>>> = {
  tools: checkTools,
  groups: checkGroups,
  librdkafka: checkLibrdkafka,
  logs: checkLogs,
  broker: checkBroker,
  commands: checkCommands,
  acceptance: checkAcceptance,
  cluster: checkCluster,
  leaders: checkLeaders,
  mirror: checkMirror,
  links: checkLinks,
  rings: checkRings,
  unclean: checkUnclean,
  mm2: checkMirrorMaker,
  security: checkSecurity,
}

process.exitCode = await main(process.argv.slice(2))

async function main(args: readonly string[]): Promise<number> {
  const wanted = args.filter((each) => each !== '--save')
  const at = wanted.indexOf('--kafka')
  const version = at < 0 ? undefined : wanted.splice(at, 2)[1]
  const unknown = wanted.find((each) => !(each in groups))
  if (unknown !== undefined) {
    process.stderr.write(
      `usage: node test/witness/run.ts [--save] [--kafka VERSION] [${Object.keys(groups).join('] [')}]\n`,
    )
    return 2
  }
  if (!existsSync(streamBundle) || !existsSync(daemonBundle)) build()
  const kafka = Kafka.prepare(version)
  const started = performance.now()
  const results: CheckResult[] = []
  for (const [name, run] of Object.entries(groups)) {
    if (wanted.length > 0 && !wanted.includes(name)) continue
    const program = new Program()
    const checks = new Checks(name, results)
    try {
      await run({ kafka, program }, checks)
    } catch (error) {
      await checks.check('runs to its end', () => {
        throw error
      })
    } finally {
      program.stop()
    }
  }
  const seconds = Math.round((performance.now() - started) / 1000)
  const failed = results.filter((each) => !each.isOk).length
  const summary = `${results.length} checks, ${failed} failed, ${seconds} s, Apache Kafka ${kafka.version}\n`
  const table = resultTable(results)
  process.stdout.write(`${table}\n${summary}`)
  if (args.includes('--save')) {
    const command = ['npm run witness --', ...args].join(' ')
    const date = new Date().toISOString().slice(0, 10)
    writeFileSync(
      join(import.meta.dirname, version === undefined ? 'RESULTS.md' : `RESULTS-${version}.md`),
      `# Last result of the Kafka witnesses\n\n${date}, \`${command}\`: ${summary}\n${table}`,
    )
  }
  return failed === 0 && results.length > 0 ? 0 : 1
}

function build(): void {
  const result = spawnSync(process.execPath, ['build/build.mjs'], {
    cwd: repository,
    stdio: 'inherit',
  })
  if (result.status !== 0) throw new Error('the build failed')
}
