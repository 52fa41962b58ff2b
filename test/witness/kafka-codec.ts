/**
 * Lets Kafka's own message classes read what our codec writes, for every API and version in both directions, and
 * compares what they write back, byte for byte. A development-time check beside schema-diff.ts: that one compares the
 * table, this one the encoding.
 *
 *     mvn dependency:get -Dartifact=org.apache.kafka:kafka-clients:4.2.0
 *     node test/witness/kafka-codec.ts CLASS_PATH [SEED]      kafka-clients and slf4j-api jars; needs java 17
 *
 * Exit code: 0 the same, 1 a difference, 2 wrong usage.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { apiKeyOf, PRIVATE_KEY_MIN } from '../../src/protocol/api-table.ts'
import { writeBody } from '../../src/protocol/body.ts'
import { planOf } from '../../src/protocol/plan.ts'
import { WireWriter } from '../../src/protocol/wire-writer.ts'
import { bodyArbitrary, messageVersions } from '../src/protocol/message-arbitrary.ts'

const BODIES_PER_VERSION = 100

const [classPath, seed = '42'] = process.argv.slice(2)
if (classPath === undefined) {
  process.stderr.write('usage: node test/witness/kafka-codec.ts CLASS_PATH [SEED]\n')
  process.exitCode = 2
} else {
  const writer = new WireWriter()
  const lines: string[] = []
  for (const message of messageVersions) {
    const { api, version, direction } = message
    const key = apiKeyOf(api)
    if (key >= PRIVATE_KEY_MIN) continue
    const plan = planOf(api, version, direction)
    const parameters = { numRuns: BODIES_PER_VERSION, seed: Number(seed) }
    for (const body of fc.sample(bodyArbitrary(message), parameters)) {
      writer.begin()
      writeBody(writer, plan, body)
      lines.push(`${key} ${version} ${direction} ${Buffer.concat(writer.finish()).toString('hex')}`)
    }
  }
  const folder = mkdtempSync(join(tmpdir(), 'kafka-codec-'))
  try {
    const cases = join(folder, 'cases')
    writeFileSync(cases, lines.join('\n'))
    const program = join(import.meta.dirname, 'KafkaCodec.java')
    const output = execFileSync('java', ['-cp', classPath, program, cases], { encoding: 'utf8' })
    process.stdout.write(output)
    console.log(`${lines.length} messages, ${output === '' ? 'all the same' : 'see above'}`)
    process.exitCode = output === '' ? 0 : 1
  } finally {
    rmSync(folder, { recursive: true })
  }
}
