/**
 * `npm run model -- [--walks N] [--first N] [--seed N] [--without RULE]... [--brokers N] [--replicas N] [--min-isr N] [--steps N]`:
 * random walks of the model; with --seed one walk and its trace.
 *
 * `npm run model -- --table [--walks N] [--deep N] [--without RULE]...`: each rule (or each that is named) left out in turn, as a row of
 * the table in RESULTS.md. A rule that N walks of three sizes do not miss is looked at with as many as --deep says.
 */
import { parseArgs } from 'node:util'
import { RULE_NAMES, RULES, type RuleName, rulesWithout } from './rules.ts'
import { ModelWalker, type Size } from './walk.ts'

const { values } = parseArgs({
  options: {
    walks: { type: 'string', default: '20000' },
    deep: { type: 'string', default: '100000' },
    first: { type: 'string', default: '0' },
    seed: { type: 'string' },
    without: { type: 'string', multiple: true, default: [] },
    brokers: { type: 'string', default: '3' },
    replicas: { type: 'string' },
    'min-isr': { type: 'string', default: '2' },
    steps: { type: 'string', default: '600' },
    table: { type: 'boolean', default: false },
  },
})

const THREE: Size = { brokers: 3, replicas: 3, minInSync: 2 }
const THREE_OF_ONE: Size = { brokers: 3, replicas: 3, minInSync: 1 }
const FIVE: Size = { brokers: 5, replicas: 3, minInSync: 2 }

const steps = Number(values.steps)
const first = Number(values.first)

interface Findings {
  readonly walks: number
  readonly failing: number
  /** By invariant, the most frequent first. */
  readonly invariants: readonly {
    readonly name: string
    readonly count: number
    readonly seed: number
    readonly detail: string
  }[]
  readonly seconds: number
}

function ruleNames(texts: readonly string[]): RuleName[] {
  for (const text of texts) {
    if (text in RULES) continue
    process.stderr.write(`no such rule: ${text}; rules: ${RULE_NAMES.join(' ')}\n`)
    process.exit(2)
  }
  return texts as RuleName[]
}

function walk(size: Size, without: readonly RuleName[], walks: number): Findings {
  const walker = new ModelWalker({ ...size, steps }, rulesWithout(...without))
  const found = new Map<string, { name: string; count: number; seed: number; detail: string }>()
  const beginMs = performance.now()
  let failing = 0
  for (let seed = first; seed < first + walks; seed++) {
    const name = walker.run(seed)
    if (name === undefined) continue
    failing += 1
    const entry = found.get(name)
    if (entry !== undefined) entry.count += 1
    else found.set(name, { name, count: 1, seed, detail: walker.world.violationDetail })
  }
  const invariants = [...found.values()].sort((a, b) => b.count - a.count)
  return { walks, failing, invariants, seconds: (performance.now() - beginMs) / 1000 }
}

function sizeText({ brokers, replicas, minInSync }: Size): string {
  return `${brokers} brokers, ${replicas} replicas, minIsr ${minInSync}`
}

function printWalks(size: Size, without: readonly RuleName[]): number {
  const { walks, failing, invariants, seconds } = walk(size, without, Number(values.walks))
  const rules = without.length === 0 ? 'all rules' : `without ${without.join(', ')}`
  process.stdout.write(
    `${sizeText(size)}, ${rules}: ${failing} of ${walks} walks fail, ${seconds.toFixed(0)} s\n`,
  )
  for (const { name, count, seed, detail } of invariants) {
    process.stdout.write(`  ${name} ${count}, seed ${seed}: ${detail}\n`)
  }
  return failing
}

function printTrace(size: Size, without: readonly RuleName[], seed: number): boolean {
  const walker = new ModelWalker({ ...size, steps }, rulesWithout(...without))
  const trace: string[] = []
  const violation = walker.run(seed, trace)
  for (const line of trace) process.stdout.write(`${line}\n`)
  process.stdout.write(`seed ${seed}: ${violation ?? 'clean'}\n`)
  return violation === undefined
}

/** `| rule | invariant (walks) | per 10,000 walks | size | first seed |` */
function printRow(rule: RuleName): void {
  const some = Number(values.walks)
  const many = Number(values.deep)
  const looks: readonly (readonly [Size, number])[] = [
    [THREE, some],
    [THREE_OF_ONE, some],
    [FIVE, some],
    [THREE, many],
    [THREE_OF_ONE, many],
  ]
  let walked = 0
  for (const [size, walks] of looks) {
    walked += walks
    const { failing, invariants } = walk(size, [rule], walks)
    if (failing === 0) continue
    const { brokers, replicas, minInSync } = size
    const names = invariants.map(({ name, count }) => `${name} ${count}`).join(', ')
    const rate = ((failing / walks) * 10_000).toFixed(failing / walks < 0.001 ? 1 : 0)
    const seed = Math.min(...invariants.map((found) => found.seed))
    process.stdout.write(
      `| ${rule} | ${names} | ${rate} | ${brokers}/${replicas}/${minInSync} | ${seed} |\n`,
    )
    return
  }
  process.stdout.write(`| ${rule} | none in ${walked} walks | 0 | all | |\n`)
}

const without = ruleNames(values.without)
const brokers = Number(values.brokers)
const size: Size = {
  brokers,
  replicas: Number(values.replicas ?? brokers),
  minInSync: Number(values['min-isr']),
}
if (values.table) {
  for (const rule of without.length === 0 ? RULE_NAMES : without) printRow(rule)
} else if (values.seed !== undefined) {
  process.exitCode = printTrace(size, without, Number(values.seed)) ? 0 : 1
} else {
  process.exitCode = printWalks(size, without) === 0 ? 0 : 1
}
