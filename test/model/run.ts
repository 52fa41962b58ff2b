/**
 * `npm run model -- [--walks N] [--first N] [--seed N] [--without RULE] [--brokers N] [--replicas N] [--min-isr N] [--steps N] [--all-rules]`:
 * random walks of the model. With --seed one walk and its trace; with --all-rules each rule left out in turn.
 */
import { parseArgs } from 'node:util'
import { RULE_NAMES, RULES, type RuleName, rulesWithout } from './rules.ts'
import { ModelWalker, type WalkOptions } from './walk.ts'

const { values } = parseArgs({
  options: {
    walks: { type: 'string', default: '20000' },
    first: { type: 'string', default: '0' },
    seed: { type: 'string' },
    without: { type: 'string', multiple: true, default: [] },
    brokers: { type: 'string', default: '3' },
    replicas: { type: 'string' },
    'min-isr': { type: 'string', default: '2' },
    steps: { type: 'string', default: '600' },
    'all-rules': { type: 'boolean', default: false },
  },
})

const options: WalkOptions = {
  brokers: Number(values.brokers),
  replicas: Number(values.replicas ?? values.brokers),
  minInSync: Number(values['min-isr']),
  steps: Number(values.steps),
}

function ruleNames(texts: readonly string[]): RuleName[] {
  for (const text of texts) {
    if (text in RULES) continue
    process.stderr.write(`no such rule: ${text}; rules: ${RULE_NAMES.join(' ')}\n`)
    process.exit(2)
  }
  return texts as RuleName[]
}

/** @returns how many walks violated an invariant, by invariant */
function runWalks(without: readonly RuleName[], first: number, walks: number): number {
  const walker = new ModelWalker(options, rulesWithout(...without))
  const found = new Map<string, { count: number; seed: number; detail: string }>()
  const begin = performance.now()
  let failing = 0
  for (let seed = first; seed < first + walks; seed++) {
    const violation = walker.run(seed)
    if (violation === undefined) continue
    failing += 1
    const entry = found.get(violation)
    if (entry !== undefined) entry.count += 1
    else found.set(violation, { count: 1, seed, detail: walker.world.violationDetail })
  }
  const seconds = ((performance.now() - begin) / 1000).toFixed(0)
  const sorted = [...found].sort((a, b) => b[1].count - a[1].count)
  const summary = sorted.map(([name, { count, seed }]) => `${name} ${count} (seed ${seed})`)
  process.stdout.write(
    `${without.length === 0 ? 'all rules' : `without ${without.join(', ')}`}: ${failing} of ${walks} walks fail, ${seconds} s; ${summary.join(', ')}\n`,
  )
  if (without.length === 0) {
    for (const [name, { seed, detail }] of sorted) {
      process.stdout.write(`  seed ${seed} ${name}: ${detail}\n`)
    }
  }
  return failing
}

const without = ruleNames(values.without)
if (values.seed !== undefined) {
  const walker = new ModelWalker(options, rulesWithout(...without))
  const trace: string[] = []
  const violation = walker.run(Number(values.seed), trace)
  for (const line of trace) process.stdout.write(`${line}\n`)
  process.stdout.write(`seed ${values.seed}: ${violation ?? 'clean'}\n`)
  process.exitCode = violation === undefined ? 0 : 1
} else if (values['all-rules']) {
  for (const rule of RULE_NAMES) runWalks([rule], Number(values.first), Number(values.walks))
} else {
  const failing = runWalks(without, Number(values.first), Number(values.walks))
  process.exitCode = failing === 0 ? 0 : 1
}
