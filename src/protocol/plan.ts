/**
 * Folds version, flexibility and direction out of a schema: a plan holds what one message version needs and nothing
 * else, so that reading and writing never compare versions. Plans are pure functions of the table and are made once.
 */
import { assert } from '../base/assert.ts'
import { type ApiName, apiTable, isFlexible } from './api-table.ts'
import { errorTranslations } from './error-translation.ts'
import { type Field, type FieldType, type ScalarType, ZERO_UUID } from './schema.ts'

export type Direction = 'request' | 'response'

/** How a field is read and written; small integers, since the interpreter switches on them for every field. */
export const Kind = {
  absent: 0,
  tagged: 1,
  bool: 2,
  int8: 3,
  int16: 4,
  int32: 5,
  int64: 6,
  float64: 7,
  uuid: 8,
  string: 9,
  bytes: 10,
  records: 11,
  struct: 12,
  arrayOfStructs: 13,
  arrayOfScalars: 14,
  uint16: 15,
} as const

export type Kind = (typeof Kind)[keyof typeof Kind]

export interface FieldPlan {
  readonly name: string
  /** For error messages: `topics.partitions.fetchOffset`. */
  readonly path: string
  /** What to do in wire order: `absent` and `tagged` fields are not there. */
  readonly kind: Kind
  /** What the value is when it is there: of a tagged field, the kind of its content. */
  readonly valueKind: Kind
  /** Of the elements of an array of scalars. */
  readonly elementKind: Kind
  readonly isNullable: boolean
  readonly defaultValue: unknown
  /** Whether a writer may leave the field undefined: the same rule as `Encodable` of schema.ts. */
  readonly isOptional: boolean
  readonly tag: number
  /** Of `struct` and `arrayOfStructs`. */
  readonly struct: StructPlan | undefined
  /** Error codes this version does not know, and what it gets instead (kafka-protocol.md, section 1.6). */
  readonly translation: ReadonlyMap<number, number> | undefined
}

export interface StructPlan {
  readonly isFlexible: boolean
  /** Every field of the table, in table order: decoded objects have one shape whatever the version. */
  readonly fields: readonly FieldPlan[]
  /** Those in the tag section, by rising tag. */
  readonly tagged: readonly FieldPlan[]
  /** Fields this version cannot carry and that must not be dropped silently when they are set. */
  readonly refused: readonly FieldPlan[]
}

export interface MessagePlan {
  readonly api: ApiName
  readonly version: number
  readonly direction: Direction
  /** For error messages: `Fetch v12 request`. */
  readonly title: string
  readonly isFlexible: boolean
  /** Whether the header ends with a tag section. */
  readonly isHeaderFlexible: boolean
  readonly body: StructPlan
}

const plans = new Map<number, MessagePlan>()

/** The version must be inside the catalogue's range (codecRange). */
export function planOf(api: ApiName, version: number, direction: Direction): MessagePlan {
  const key = (apiTable[api].key * 64 + version) * 2 + (direction === 'request' ? 0 : 1)
  let plan = plans.get(key)
  if (plan === undefined) {
    plan = makePlan(api, version, direction)
    plans.set(key, plan)
  }
  return plan
}

function makePlan(api: ApiName, version: number, direction: Direction): MessagePlan {
  const schema = apiTable[api]
  assert(
    Number.isInteger(version) && version >= schema.min && version <= schema.max,
    `${api} v${version} is in the catalogue (v${schema.min} to v${schema.max})`,
  )
  const flexible = isFlexible(api, version)
  const translation = direction === 'response' ? errorTranslations(api, version) : undefined
  const context = { version, versionMin: schema.min, flexible, direction, translation }
  return {
    api,
    version,
    direction,
    title: `${api} v${version} ${direction}`,
    isFlexible: flexible,
    isHeaderFlexible: flexible && !(direction === 'response' && api === 'ApiVersions'),
    body: planStruct(schema[direction], context, ''),
  }
}

interface PlanContext {
  readonly version: number
  readonly versionMin: number
  readonly flexible: boolean
  readonly direction: Direction
  readonly translation: ReadonlyMap<number, number> | undefined
}

function planStruct(fields: readonly Field[], context: PlanContext, prefix: string): StructPlan {
  const plans: FieldPlan[] = []
  const refused: FieldPlan[] = []
  for (const field of fields) {
    const plan = planField(field, context, prefix)
    plans.push(plan)
    const isIgnorable = context.direction === 'response' || field[3]?.ignorable === true
    if (plan.kind === Kind.absent && !isIgnorable) refused.push(plan)
  }
  const tagged = plans.filter((plan) => plan.kind === Kind.tagged)
  tagged.sort((left, right) => left.tag - right.tag)
  return { isFlexible: context.flexible, fields: plans, tagged, refused }
}

function planField(field: Field, context: PlanContext, prefix: string): FieldPlan {
  const [name, type, since, options = {}] = field
  const { version } = context
  const path = `${prefix}${name}`
  const isThere = version >= since && version <= (options.until ?? version)
  const valueKind = kindOf(type)
  const members = membersOf(type)
  const struct = members && planStruct(members, context, `${path}.`)
  const isNullable =
    (isThere && options.nullable !== undefined && version >= options.nullable) ||
    (!isThere && options.default === null)
  return {
    name,
    path,
    kind: !isThere ? Kind.absent : options.tag !== undefined ? Kind.tagged : valueKind,
    valueKind,
    elementKind:
      typeof type === 'string' && type.endsWith('[]') ? elementKindOf(type) : Kind.absent,
    isNullable,
    defaultValue: options.default === undefined ? implicitDefault(type, struct) : options.default,
    isOptional:
      since > context.versionMin ||
      options.until !== undefined ||
      options.default !== undefined ||
      options.tag !== undefined,
    tag: options.tag ?? -1,
    struct,
    translation: name === 'errorCode' ? context.translation : undefined,
  }
}

function membersOf(type: FieldType): readonly Field[] | undefined {
  if (typeof type === 'string') return undefined
  return 'array' in type ? type.array : type.struct
}

function kindOf(type: FieldType): Kind {
  if (typeof type !== 'string') return 'array' in type ? Kind.arrayOfStructs : Kind.struct
  return type.endsWith('[]') ? Kind.arrayOfScalars : Kind[type as ScalarType]
}

function elementKindOf(type: string): Kind {
  return Kind[type.slice(0, -2) as ScalarType]
}

const EMPTY_ARRAY: readonly never[] = Object.freeze([])

function implicitDefault(type: FieldType, struct: StructPlan | undefined): unknown {
  if (typeof type !== 'string') {
    if ('array' in type || struct === undefined) return EMPTY_ARRAY
    const value: Record<string, unknown> = {}
    for (const field of struct.fields) value[field.name] = field.defaultValue
    return Object.freeze(value)
  }
  switch (type) {
    case 'bool':
      return false
    case 'uuid':
      return ZERO_UUID
    case 'string':
      return ''
    case 'bytes':
      return new Uint8Array(0)
    case 'records':
      return null
    case 'int8':
    case 'int16':
    case 'uint16':
    case 'int32':
    case 'int64':
    case 'float64':
      return 0
    default:
      return EMPTY_ARRAY
  }
}
