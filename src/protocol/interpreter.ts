/**
 * Reads and writes message bodies by walking a plan: one straight pass, one switch per field. Plans that are used often
 * are taken over by straight-line code (straight-line.ts), which calls back here for what is rare.
 *
 * Invariants: a reader gives every field of the table (what the version lacks has its default); a tag it does not know
 * is skipped; null where the version forbids it is malformed. A writer that forgets a required field is a programmer's
 * error.
 */
import { StreamError } from '../base/errors.ts'
import { type FieldPlan, Kind, type MessagePlan, type StructPlan } from './plan.ts'
import type { WireReader } from './wire-reader.ts'
import type { WireWriter } from './wire-writer.ts'

/** Larger arrays grow as their elements arrive, so that a count alone claims no memory. */
export const PREALLOCATED_ELEMENTS_MAX = 1000

export type Struct = Record<string, unknown>

/** @throws StreamError MALFORMED_MESSAGE naming the field */
export function readBody(reader: WireReader, plan: MessagePlan): unknown {
  return readStruct(reader, plan.body)
}

/**
 * @throws StreamError UNSUPPORTED_BY_BROKER when a request sets a field that the version cannot carry and that changes
 *   what the request means; MALFORMED_MESSAGE when a string is too long
 * @throws AssertionError when a value is missing or has the wrong type
 */
export function writeBody(writer: WireWriter, plan: MessagePlan, body: unknown): void {
  writeStruct(writer, plan.body, plan, body)
}

// --- reading

function readStruct(reader: WireReader, plan: StructPlan): Struct {
  const struct: Struct = {}
  const fields = plan.fields
  for (let index = 0; index < fields.length; index++) {
    const field = fields[index] as FieldPlan
    const kind = field.kind
    struct[field.name] =
      kind <= Kind.tagged ? field.defaultValue : readValue(reader, field, kind, plan.isFlexible)
  }
  if (plan.isFlexible) {
    const count = reader.tagCount()
    if (count > 0) readTags(reader, plan, struct, count)
  }
  return struct
}

export function readTags(
  reader: WireReader,
  plan: StructPlan,
  struct: Struct,
  count: number,
): void {
  reader.tags(count, (tag) => {
    const field = plan.tagged.find((candidate) => candidate.tag === tag)
    if (field === undefined) return false
    struct[field.name] = readValue(reader, field, field.valueKind, true)
    return true
  })
}

export function readValue(
  reader: WireReader,
  field: FieldPlan,
  kind: Kind,
  flexible: boolean,
): unknown {
  reader.field = field.path
  switch (kind) {
    case Kind.string: {
      const value = reader.string(flexible)
      if (value === null && !field.isNullable) throw nullRefused(reader)
      return value
    }
    case Kind.records:
    case Kind.bytes: {
      const value = reader.byteRange(flexible)
      if (value === null && !field.isNullable) throw nullRefused(reader)
      return value
    }
    case Kind.struct:
      if (field.isNullable && reader.int8() < 0) return null
      return readStruct(reader, field.struct as StructPlan)
    case Kind.arrayOfStructs:
      return readStructs(reader, field, flexible)
    case Kind.arrayOfScalars:
      return readScalars(reader, field, flexible)
    default:
      return readNumber(reader, kind)
  }
}

function readNumber(reader: WireReader, kind: Kind): number | boolean | string {
  switch (kind) {
    case Kind.int32:
      return reader.int32()
    case Kind.int64:
      return reader.int64()
    case Kind.int16:
      return reader.int16()
    case Kind.int8:
      return reader.int8()
    case Kind.bool:
      return reader.bool()
    case Kind.uuid:
      return reader.uuid()
    default:
      return reader.float64()
  }
}

function readStructs(
  reader: WireReader,
  field: FieldPlan,
  flexible: boolean,
): readonly Struct[] | null {
  const count = reader.arrayLength(flexible)
  if (count < 0) {
    if (!field.isNullable) throw nullRefused(reader)
    return null
  }
  const plan = field.struct as StructPlan
  const structs: Struct[] = count <= PREALLOCATED_ELEMENTS_MAX ? new Array(count) : []
  for (let index = 0; index < count; index++) structs[index] = readStruct(reader, plan)
  return structs
}

function readScalars(
  reader: WireReader,
  field: FieldPlan,
  flexible: boolean,
): readonly unknown[] | null {
  const count = reader.arrayLength(flexible)
  if (count < 0) {
    if (!field.isNullable) throw nullRefused(reader)
    return null
  }
  const kind = field.elementKind
  const scalars: unknown[] = count <= PREALLOCATED_ELEMENTS_MAX ? new Array(count) : []
  for (let index = 0; index < count; index++) {
    scalars[index] = kind === Kind.string ? readElement(reader, flexible) : readNumber(reader, kind)
  }
  return scalars
}

function readElement(reader: WireReader, flexible: boolean): string {
  const value = reader.string(flexible)
  if (value === null) throw nullRefused(reader)
  return value
}

export function nullRefused(reader: WireReader): StreamError {
  return reader.malformed('null is not allowed here')
}

// --- writing

function writeStruct(
  writer: WireWriter,
  plan: StructPlan,
  message: MessagePlan,
  value: unknown,
): void {
  const struct = value as Struct
  const flexible = plan.isFlexible
  const fields = plan.fields
  for (let index = 0; index < fields.length; index++) {
    const field = fields[index] as FieldPlan
    const kind = field.kind
    if (kind <= Kind.tagged) continue
    writer.field = field.path
    const content = struct[field.name]
    if (content !== undefined) {
      writeValue(writer, field, kind, message, content)
    } else if (field.isOptional) {
      writeValue(writer, field, kind, message, field.defaultValue)
    } else {
      throw writer.wrong(content, `given: ${message.title} requires it`)
    }
  }
  if (plan.refused.length > 0) refuseDropped(plan, message, struct)
  if (flexible) writeTags(writer, plan, message, struct)
}

export function writeValue(
  writer: WireWriter,
  field: FieldPlan,
  kind: Kind,
  message: MessagePlan,
  value: unknown,
): void {
  const flexible = message.isFlexible
  if (value === null && !field.isNullable) throw writer.wrong(value, `a value in ${message.title}`)
  switch (kind) {
    case Kind.string:
      writer.string(value as string | null, flexible)
      break
    case Kind.records:
      writer.records(value, flexible)
      break
    case Kind.bytes:
      writer.bytes(value, flexible)
      break
    case Kind.struct:
      if (field.isNullable) writer.int8(value === null ? -1 : 1)
      if (value !== null) writeStruct(writer, field.struct as StructPlan, message, value)
      break
    case Kind.arrayOfStructs:
      writeStructs(writer, field, message, value)
      break
    case Kind.arrayOfScalars:
      writeScalars(writer, field, flexible, value)
      break
    case Kind.int16:
      writer.int16(
        field.translation === undefined
          ? (value as number)
          : (field.translation.get(value as number) ?? (value as number)),
      )
      break
    default:
      writeNumber(writer, kind, value)
  }
}

function writeNumber(writer: WireWriter, kind: Kind, value: unknown): void {
  switch (kind) {
    case Kind.int32:
      writer.int32(value as number)
      break
    case Kind.int64:
      writer.int64(value as number)
      break
    case Kind.int16:
      writer.int16(value as number)
      break
    case Kind.int8:
      writer.int8(value as number)
      break
    case Kind.bool:
      writer.bool(value)
      break
    case Kind.uuid:
      writer.uuid(value)
      break
    default:
      writer.float64(value)
  }
}

function writeStructs(
  writer: WireWriter,
  field: FieldPlan,
  message: MessagePlan,
  value: unknown,
): void {
  if (value === null) {
    writer.length(-1, message.isFlexible)
    return
  }
  if (!Array.isArray(value)) throw writer.wrong(value, 'an array')
  const plan = field.struct as StructPlan
  writer.length(value.length, message.isFlexible)
  for (let index = 0; index < value.length; index++) {
    writeStruct(writer, plan, message, value[index])
  }
}

function writeScalars(
  writer: WireWriter,
  field: FieldPlan,
  flexible: boolean,
  value: unknown,
): void {
  if (value === null) {
    writer.length(-1, flexible)
    return
  }
  if (!Array.isArray(value)) throw writer.wrong(value, 'an array')
  const kind = field.elementKind
  writer.length(value.length, flexible)
  for (let index = 0; index < value.length; index++) {
    const element: unknown = value[index]
    if (kind === Kind.string) {
      if (typeof element !== 'string') throw writer.wrong(element, 'a string')
      writer.string(element, flexible)
    } else {
      writeNumber(writer, kind, element)
    }
  }
}

/** Tags come in rising order; one at its default is left out. */
export function writeTags(
  writer: WireWriter,
  plan: StructPlan,
  message: MessagePlan,
  struct: Struct,
): void {
  const tagged = plan.tagged
  let count = 0
  for (let index = 0; index < tagged.length; index++) {
    const field = tagged[index] as FieldPlan
    if (!isDefault(field, struct[field.name])) count++
  }
  writer.uvarint(count)
  if (count === 0) return
  for (let index = 0; index < tagged.length; index++) {
    const field = tagged[index] as FieldPlan
    const value = struct[field.name]
    if (isDefault(field, value)) continue
    writer.field = field.path
    writer.tag(field.tag, () => writeValue(writer, field, field.valueKind, message, value))
  }
}

function isDefault(field: FieldPlan, value: unknown): boolean {
  if (value === undefined || value === field.defaultValue) return true
  if (value === null || field.defaultValue === null) return false
  if (value instanceof Uint8Array || Array.isArray(value)) return value.length === 0
  if (field.struct === undefined) return false
  const struct = value as Struct
  return field.struct.fields.every((member) => isDefault(member, struct[member.name]))
}

export function refuseDropped(plan: StructPlan, message: MessagePlan, struct: Struct): void {
  for (const field of plan.refused) {
    if (isDefault(field, struct[field.name])) continue
    throw new StreamError(
      'UNSUPPORTED_BY_BROKER',
      `${message.title} cannot carry ${field.path}; the broker is too old for it`,
      { kafkaError: 35 },
    )
  }
}
