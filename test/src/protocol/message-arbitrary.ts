/** Arbitrary messages of every API and version, derived from the schema table alone (not from the codec's plans). */
import fc from 'fast-check'
import { type ApiName, apiNames, apiTable } from '../../../src/protocol/api-table.ts'
import {
  type Field,
  type FieldType,
  INT64_MAX,
  INT64_MIN,
  ZERO_UUID,
} from '../../../src/protocol/schema.ts'

export type Direction = 'request' | 'response'

export interface MessageVersion {
  readonly api: ApiName
  readonly version: number
  readonly direction: Direction
}

/** Every message of the catalogue. */
export const messageVersions: readonly MessageVersion[] = apiNames.flatMap((api) => {
  const { min, max } = apiTable[api]
  const versions = Array.from({ length: max - min + 1 }, (_, index) => min + index)
  return versions.flatMap((version) => [
    { api, version, direction: 'request' as const },
    { api, version, direction: 'response' as const },
  ])
})

export type Body = Record<string, unknown>

/** What reading must give back: fields that the version lacks are at their default. */
export function bodyArbitrary({ api, version, direction }: MessageVersion): fc.Arbitrary<Body> {
  return structArbitrary(apiTable[api][direction], version)
}

function structArbitrary(fields: readonly Field[], version: number): fc.Arbitrary<Body> {
  const members: Record<string, fc.Arbitrary<unknown>> = {}
  for (const field of fields) members[field[0]] = fieldArbitrary(field, version)
  return fc.record(members, { noNullPrototype: true })
}

function fieldArbitrary(field: Field, version: number): fc.Arbitrary<unknown> {
  const [name, type, since, options = {}] = field
  const atDefault = fc.constant(defaultOf(field, version))
  if (version < since || version > (options.until ?? version)) return atDefault
  // Error codes that are translated on the way are the business of another test.
  const value =
    name === 'errorCode' ? fc.integer({ min: -1, max: 1 }) : typeArbitrary(type, version)
  const choices: { arbitrary: fc.Arbitrary<unknown>; weight: number }[] = [
    { arbitrary: value, weight: 4 },
  ]
  if (options.nullable !== undefined && version >= options.nullable) {
    choices.push({ arbitrary: fc.constant(null), weight: 1 })
  }
  if (options.tag !== undefined) choices.push({ arbitrary: atDefault, weight: 2 })
  return fc.oneof(...choices)
}

const int64 = fc.oneof(
  fc.maxSafeInteger(),
  fc.integer({ min: -10, max: 10 }),
  fc.constantFrom(INT64_MAX, INT64_MIN, 2 ** 32, -(2 ** 32), 2 ** 53 - 1, 1 - 2 ** 53),
)

const uuid = fc.oneof(
  fc.constant(ZERO_UUID),
  fc
    .uint8Array({ minLength: 16, maxLength: 16 })
    .map((bytes) => Buffer.from(bytes).toString('base64url')),
)

const text = fc.oneof(
  { arbitrary: fc.string({ unit: 'binary', maxLength: 12 }).filter(isWellFormed), weight: 4 },
  { arbitrary: fc.string({ unit: 'grapheme', minLength: 30, maxLength: 60 }), weight: 1 },
  { arbitrary: fc.integer({ min: 120, max: 300 }).map((length) => 'é'.repeat(length)), weight: 1 },
)

function isWellFormed(value: string): boolean {
  return value.isWellFormed()
}

const bytes = fc.oneof(
  { arbitrary: fc.uint8Array({ maxLength: 20 }), weight: 4 },
  {
    arbitrary: fc.integer({ min: 1020, max: 1030 }).map((length) => new Uint8Array(length).fill(7)),
    weight: 1,
  },
)

const scalars: Record<string, fc.Arbitrary<unknown>> = {
  bool: fc.boolean(),
  int8: fc.integer({ min: -128, max: 127 }),
  int16: fc.integer({ min: -32768, max: 32767 }),
  int32: fc.integer(),
  int64,
  float64: fc.double(),
  uuid,
  string: text,
  bytes,
  records: bytes,
}

function typeArbitrary(type: FieldType, version: number): fc.Arbitrary<unknown> {
  if (typeof type === 'string') {
    const element = scalars[type.replace('[]', '')] as fc.Arbitrary<unknown>
    return type.endsWith('[]') ? fc.array(element, { maxLength: 4 }) : element
  }
  if ('struct' in type) return structArbitrary(type.struct, version)
  return fc.array(structArbitrary(type.array, version), { maxLength: 3 })
}

function defaultOf(field: Field, version: number): unknown {
  const [, type, , options] = field
  if (options?.default !== undefined) return options.default
  if (typeof type !== 'string') {
    if ('array' in type) return []
    return Object.fromEntries(type.struct.map((member) => [member[0], defaultOf(member, version)]))
  }
  if (type.endsWith('[]')) return []
  const values: Record<string, unknown> = {
    bool: false,
    uuid: ZERO_UUID,
    string: '',
    bytes: new Uint8Array(0),
    records: null,
  }
  return type in values ? values[type] : 0
}
