/**
 * Compares the schema table with Kafka's own message specifications, fact by fact: keys, version ranges, flexible
 * versions, and of every field its order, type, versions, nullability, tag, default and (in requests) whether it may be
 * dropped. A development-time check: the specifications are read from a kafka-clients jar and never kept.
 *
 *     mvn dependency:get -Dartifact=org.apache.kafka:kafka-clients:4.2.0
 *     node test/witness/schema-diff.ts PATH      a kafka-clients jar, or a folder with its common/message/*.json
 *
 * Exit code: 0 the same, 1 a difference (one line each), 2 wrong usage.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ApiName, apiNames, apiTable, PRIVATE_KEY_MIN } from '../../src/protocol/api-table.ts'
import type { ApiSchema, Field, FieldType } from '../../src/protocol/schema.ts'

interface Specification {
  readonly apiKey?: number
  readonly type: string
  readonly name: string
  readonly validVersions: string
  readonly flexibleVersions: string
  readonly latestVersionUnstable?: boolean
  readonly fields: readonly SpecifiedField[]
  readonly commonStructs?: readonly { readonly name: string; readonly fields: SpecifiedField[] }[]
}

interface SpecifiedField {
  readonly name: string
  readonly type: string
  readonly versions: string
  readonly nullableVersions?: string
  readonly taggedVersions?: string
  readonly tag?: number
  readonly default?: string | number | boolean
  readonly ignorable?: boolean
  readonly fields?: readonly SpecifiedField[]
}

/** Versions left out on purpose, with the reason. */
const leftOut: Partial<Record<ApiName, { readonly max: number; readonly reason: string }>> = {
  InitProducerId: { max: 5, reason: 'v6 is unstable (two-phase commit, KIP-939)' },
}

const ALWAYS = Number.MAX_SAFE_INTEGER

interface Range {
  readonly min: number
  readonly max: number
}

function parseRange(text: string | undefined): Range | undefined {
  if (text === undefined || text === 'none') return undefined
  const [min, max] = text.split('-')
  if (text.endsWith('+')) return { min: Number.parseInt(text, 10), max: ALWAYS }
  return { min: Number(min), max: Number(max ?? min) }
}

function within(range: Range | undefined, bounds: Range): Range | undefined {
  if (range === undefined) return undefined
  const clipped = { min: Math.max(range.min, bounds.min), max: Math.min(range.max, bounds.max) }
  return clipped.min > clipped.max ? undefined : clipped
}

function show(range: Range | undefined): string {
  return range === undefined ? 'none' : `${range.min}-${range.max}`
}

function readSpecifications(path: string): Map<string, Specification> {
  const isJar = statSync(path).isFile()
  const folder = isJar ? mkdtempSync(join(tmpdir(), 'schema-diff-')) : path
  try {
    if (isJar) execFileSync('unzip', ['-qo', path, 'common/message/*', '-d', folder])
    const messages = isJar ? join(folder, 'common', 'message') : folder
    const result = new Map<string, Specification>()
    for (const file of readdirSync(messages).filter((name) => name.endsWith('.json'))) {
      const text = readFileSync(join(messages, file), 'utf8')
      const specification: Specification = JSON.parse(text.replace(/^\s*\/\/.*$/gm, ''))
      result.set(specification.name, specification)
    }
    return result
  } finally {
    if (isJar) rmSync(folder, { recursive: true })
  }
}

/** Daemons alone send these, to daemons alone. */
const PRIVATE_TAG_MIN = 10_000

const differences: string[] = []
let compared = 0

function expectSame(where: string, what: string, ours: unknown, theirs: unknown): void {
  compared++
  if (ours === theirs) return
  differences.push(`${where}: ${what}: ours ${String(ours)}, Kafka ${String(theirs)}`)
}

function compareApi(api: ApiName, specifications: Map<string, Specification>): void {
  const schema: ApiSchema = apiTable[api]
  for (const direction of ['request', 'response'] as const) {
    const name = `${api}${direction === 'request' ? 'Request' : 'Response'}`
    const specification = specifications.get(name)
    if (specification === undefined) {
      differences.push(`${name}: Kafka has no such message`)
      continue
    }
    const valid = parseRange(specification.validVersions) ?? { min: 0, max: -1 }
    const bounds = { min: valid.min, max: leftOut[api]?.max ?? valid.max }
    expectSame(name, 'key', schema.key, specification.apiKey)
    expectSame(name, 'versions', show(schema), show(bounds))
    const flexible = within(parseRange(specification.flexibleVersions), bounds)
    expectSame(name, 'first flexible version', schema.flexibleFrom, flexible?.min)
    const context = { direction, specification }
    compareFields(name, schema[direction], specification.fields, bounds, context)
  }
}

interface Context {
  readonly direction: 'request' | 'response'
  readonly specification: Specification
}

function compareFields(
  where: string,
  ours: readonly Field[],
  specified: readonly SpecifiedField[],
  bounds: Range,
  context: Context,
): void {
  const theirs = specified.filter((field) => within(parseRange(field.versions), bounds))
  expectSame(
    where,
    'fields',
    ours
      .filter((field) => (field[3]?.tag ?? 0) < PRIVATE_TAG_MIN)
      .map((field) => field[0])
      .join(' '),
    theirs.map((field) => camelCase(field.name)).join(' '),
  )
  for (const field of theirs) {
    const name = camelCase(field.name)
    const own = ours.find((candidate) => candidate[0] === name)
    if (own !== undefined) compareField(`${where}.${name}`, own, field, bounds, context)
  }
}

function compareField(
  where: string,
  ours: Field,
  theirs: SpecifiedField,
  bounds: Range,
  context: Context,
): void {
  const [, type, since, options = {}] = ours
  const range = within(parseRange(theirs.versions), bounds) as Range
  const ownRange = within({ min: since, max: options.until ?? ALWAYS }, bounds)
  expectSame(where, 'versions', show(ownRange), show(range))
  const ownNullable =
    options.nullable === undefined ? undefined : { min: options.nullable, max: ALWAYS }
  const nullable = within(parseRange(theirs.nullableVersions), range)
  expectSame(where, 'nullable', show(within(ownNullable, range)), show(nullable))
  expectSame(where, 'tag', options.tag, theirs.tag)
  if (theirs.tag !== undefined) {
    expectSame(where, 'tagged', show(range), show(within(parseRange(theirs.taggedVersions), range)))
  }
  expectSame(where, 'default', ownDefault(ours), theirDefault(theirs))
  if (context.direction === 'request' && show(range) !== show(bounds)) {
    expectSame(where, 'ignorable', options.ignorable ?? false, theirs.ignorable ?? false)
  }
  const members = membersOf(type)
  expectSame(where, 'type', typeName(type), kafkaTypeName(theirs.type))
  if (members === undefined) return
  const specified = theirs.fields ?? commonStruct(theirs.type, context)
  compareFields(where, members, specified, range, context)
}

function membersOf(type: FieldType): readonly Field[] | undefined {
  if (typeof type === 'string') return undefined
  return 'array' in type ? type.array : type.struct
}

function typeName(type: FieldType): string {
  if (typeof type === 'string') return type
  return 'array' in type ? 'struct[]' : 'struct'
}

function kafkaTypeName(type: string): string {
  const isArray = type.startsWith('[]')
  const element = isArray ? type.slice(2) : type
  return `${/^[A-Z]/.test(element) ? 'struct' : element}${isArray ? '[]' : ''}`
}

function commonStruct(type: string, context: Context): readonly SpecifiedField[] {
  const name = type.replace('[]', '')
  const found = context.specification.commonStructs?.find((struct) => struct.name === name)
  if (found === undefined) throw new Error(`${context.specification.name}: no struct ${name}`)
  return found.fields
}

/** Defaults as texts, with Kafka's implicit ones filled in. */
function ownDefault(field: Field): string {
  const [, type, , options] = field
  const value = options?.default
  if (value === null) return 'null'
  if (value === 2 ** 63) return '9223372036854775807'
  return value === undefined ? implicitDefault(typeName(type)) : String(value)
}

function theirDefault(field: SpecifiedField): string {
  const value = field.default
  const type = kafkaTypeName(field.type)
  if (value === undefined || value === '') return implicitDefault(type)
  return /^(-?0x)/.test(String(value)) ? String(Number(value)) : String(value).toLowerCase()
}

function implicitDefault(type: string): string {
  if (type.endsWith('[]')) return 'empty'
  if (type === 'bool') return 'false'
  return /^(u?int|float)/.test(type) ? '0' : ''
}

/** Kafka's generator lowers the first letter and leaves the rest. */
function camelCase(name: string): string {
  return name.charAt(0).toLowerCase() + name.slice(1)
}

const path = process.argv[2]
if (path === undefined || process.argv.length !== 3) {
  process.stderr.write('usage: node test/witness/schema-diff.ts KAFKA_CLIENTS_JAR_OR_FOLDER\n')
  process.exitCode = 2
} else {
  const specifications = readSpecifications(path)
  const apis = apiNames.filter((api) => apiTable[api].key < PRIVATE_KEY_MIN)
  for (const api of apis) compareApi(api, specifications)
  for (const difference of differences) console.log(difference)
  console.log(`${apis.length} APIs, ${compared} facts compared, ${differences.length} differ`)
  for (const [api, { reason }] of Object.entries(leftOut)) console.log(`left out: ${api} ${reason}`)
  process.exitCode = differences.length === 0 ? 0 : 1
}
