/**
 * Readers and writers as generated straight-line code, for messages that come often: object literals of the final
 * shape and constant field names instead of a walk over the plan. About twice as fast as the interpreter on a Fetch of
 * 50 partitions (kafka-protocol.md, section 5).
 *
 * Does exactly what interpreter.ts does, in the same order, and hands everything rare to it: tags, structs in place,
 * arrays of scalars, errors. A property compares the two for every API and version. The code holds only names and
 * numbers of the schema table, never anything from a message.
 */
import {
  nullRefused,
  PREALLOCATED_ELEMENTS_MAX,
  readTags,
  readValue,
  refuseDropped,
  writeTags,
  writeValue,
} from './interpreter.ts'
import { type FieldPlan, Kind, type MessagePlan, type StructPlan } from './plan.ts'
import type { WireReader } from './wire-reader.ts'
import type { WireWriter } from './wire-writer.ts'

export type BodyReader = (reader: WireReader) => unknown
export type BodyWriter = (writer: WireWriter, body: unknown) => void

/** Methods of WireReader and WireWriter that take and give a bare value. */
const bareMethods: Partial<Record<Kind, string>> = {
  [Kind.bool]: 'bool',
  [Kind.int8]: 'int8',
  [Kind.int16]: 'int16',
  [Kind.int32]: 'int32',
  [Kind.int64]: 'int64',
  [Kind.float64]: 'float64',
  [Kind.uuid]: 'uuid',
}

/** Those that also take the encoding and know null. */
const lengthMethods: Partial<Record<Kind, { readonly read: string; readonly write: string }>> = {
  [Kind.string]: { read: 'string', write: 'string' },
  [Kind.bytes]: { read: 'byteRange', write: 'bytes' },
  [Kind.records]: { read: 'byteRange', write: 'records' },
}

/** The code under construction: one function per struct, and the objects that the code refers to by number. */
class Source {
  readonly constants: unknown[] = []
  private readonly functions: string[] = []

  constant(value: unknown): string {
    return `constants[${this.constants.push(value) - 1}]`
  }

  /** @returns the name under which the code can call it */
  add(parameters: string, lines: readonly string[]): string {
    const name = `struct${this.functions.length}`
    this.functions.push(`function ${name}(${parameters}) {\n${lines.join('\n')}\n}`)
    return name
  }

  compile<F>(entry: string, helpers: Readonly<Record<string, unknown>>): F {
    const names = Object.keys(helpers)
    const text = `'use strict'\n${this.functions.join('\n')}\nreturn ${entry}`
    const make = new Function('constants', ...names, text)
    return make(this.constants, ...Object.values(helpers)) as F
  }
}

export function generateReader(plan: MessagePlan): BodyReader {
  const source = new Source()
  const entry = readerOf(plan.body, source)
  return source.compile<BodyReader>(entry, { readValue, readTags, nullRefused })
}

function readerOf(plan: StructPlan, source: Source): string {
  const lines: string[] = []
  const members: string[] = []
  plan.fields.forEach((field, index) => {
    members.push(`${JSON.stringify(field.name)}: f${index}`)
    lines.push(...readLines(field, `f${index}`, plan.isFlexible, source))
  })
  lines.push(`const struct = { ${members.join(', ')} }`)
  if (plan.isFlexible) {
    lines.push(
      'const tags = reader.tagCount()',
      `if (tags > 0) readTags(reader, ${source.constant(plan)}, struct, tags)`,
    )
  }
  lines.push('return struct')
  return source.add('reader', lines)
}

function readLines(
  field: FieldPlan,
  name: string,
  flexible: boolean,
  source: Source,
): readonly string[] {
  const { kind, struct } = field
  if (kind <= Kind.tagged) return [`const ${name} = ${source.constant(field.defaultValue)}`]
  const setField = `reader.field = ${JSON.stringify(field.path)}`
  const refuseNull = field.isNullable ? [] : [`if (${name} === null) throw nullRefused(reader)`]
  const bare = bareMethods[kind]
  if (bare !== undefined) return [setField, `const ${name} = reader.${bare}()`]
  const withLength = lengthMethods[kind]
  if (withLength !== undefined) {
    return [setField, `const ${name} = reader.${withLength.read}(${flexible})`, ...refuseNull]
  }
  if (kind === Kind.arrayOfStructs && struct !== undefined) {
    const element = readerOf(struct, source)
    return [
      setField,
      `let ${name} = null`,
      `const ${name}Count = reader.arrayLength(${flexible})`,
      `if (${name}Count >= 0) {`,
      `  ${name} = ${name}Count <= ${PREALLOCATED_ELEMENTS_MAX} ? new Array(${name}Count) : []`,
      `  for (let i = 0; i < ${name}Count; i++) ${name}[i] = ${element}(reader)`,
      '}',
      ...refuseNull,
    ]
  }
  return [`const ${name} = readValue(reader, ${source.constant(field)}, ${kind}, ${flexible})`]
}

export function generateWriter(plan: MessagePlan): BodyWriter {
  const source = new Source()
  const entry = writerOf(plan.body, plan, source)
  return source.compile<BodyWriter>(entry, {
    writeValue,
    writeTags,
    refuseDropped,
    required,
    refuseNull,
    refuseScalar,
  })
}

function required(writer: WireWriter, message: MessagePlan): never {
  throw writer.wrong(undefined, `given: ${message.title} requires it`)
}

function refuseNull(writer: WireWriter, message: MessagePlan): never {
  throw writer.wrong(null, `a value in ${message.title}`)
}

function refuseScalar(writer: WireWriter, value: unknown): never {
  throw writer.wrong(value, 'an array')
}

function writerOf(plan: StructPlan, message: MessagePlan, source: Source): string {
  const messageName = source.constant(message)
  const planName = source.constant(plan)
  const lines = plan.fields.flatMap((field, index) =>
    field.kind <= Kind.tagged ? [] : writeLines(field, `f${index}`, message, source),
  )
  if (plan.refused.length > 0) lines.push(`refuseDropped(${planName}, ${messageName}, struct)`)
  if (plan.isFlexible) {
    const isSet = plan.tagged.map((field) => `struct[${JSON.stringify(field.name)}] !== undefined`)
    const write = `writeTags(writer, ${planName}, ${messageName}, struct)`
    lines.push(
      isSet.length === 0
        ? 'writer.uvarint(0)'
        : `if (${isSet.join(' || ')}) ${write}\nelse writer.uvarint(0)`,
    )
  }
  return source.add('writer, struct', lines)
}

function writeLines(
  field: FieldPlan,
  name: string,
  message: MessagePlan,
  source: Source,
): readonly string[] {
  const { kind, struct } = field
  const flexible = message.isFlexible
  const messageName = source.constant(message)
  const fallback = field.isOptional
    ? `${name} = ${source.constant(field.defaultValue)}`
    : `required(writer, ${messageName})`
  const lines = [
    `writer.field = ${JSON.stringify(field.path)}`,
    `let ${name} = struct[${JSON.stringify(field.name)}]`,
    `if (${name} === undefined) ${fallback}`,
  ]
  const isPlain = field.translation === undefined
  const bare = bareMethods[kind]
  const withLength = lengthMethods[kind]
  if (bare === undefined && withLength === undefined && kind !== Kind.arrayOfStructs) {
    lines.push(`writeValue(writer, ${source.constant(field)}, ${kind}, ${messageName}, ${name})`)
    return lines
  }
  if (!field.isNullable) lines.push(`if (${name} === null) refuseNull(writer, ${messageName})`)
  if (bare !== undefined) {
    const value = isPlain ? name : `(${source.constant(field.translation)}.get(${name}) ?? ${name})`
    lines.push(`writer.${bare}(${value})`)
  } else if (withLength !== undefined) {
    lines.push(`writer.${withLength.write}(${name}, ${flexible})`)
  } else if (struct !== undefined) {
    lines.push(
      `if (${name} === null) writer.length(-1, ${flexible})`,
      `else if (!Array.isArray(${name})) refuseScalar(writer, ${name})`,
      'else {',
      `  writer.length(${name}.length, ${flexible})`,
      `  for (let i = 0; i < ${name}.length; i++) ${writerOf(struct, message, source)}(writer, ${name}[i])`,
      '}',
    )
  }
  return lines
}
