/**
 * The grammar of the schema table: how one Kafka API is described as data, and the message types that follow from it.
 *
 * A table row is a list of facts of the Kafka protocol: which field stands where, from which version on, how it is
 * encoded. These facts are permanent; a published version never changes. test/witness/schema-diff.ts compares them with
 * Kafka's own specifications.
 *
 * Field names are Kafka's, in camelCase. Fields stand in wire order. One row serves both directions.
 */

export type ScalarType =
  | 'bool'
  | 'int8'
  | 'int16'
  | 'uint16'
  | 'int32'
  | 'int64'
  | 'float64'
  | 'uuid'
  | 'string'
  | 'bytes'
  | 'records'

/** `int32[]` is an array of scalars, `{ array }` an array of structs, `{ struct }` one struct in place. */
export type FieldType =
  | ScalarType
  | 'int8[]'
  | 'int16[]'
  | 'int32[]'
  | 'int64[]'
  | 'string[]'
  | 'uuid[]'
  | { readonly array: readonly Field[] }
  | { readonly struct: readonly Field[] }

export interface FieldOptions {
  /** The last version that has the field (inclusive); absent: still there. */
  readonly until?: number
  /** The first version in which null may be sent; absent: never. */
  readonly nullable?: number
  /** The field is sent in the tag section under this number, and left out at its default. */
  readonly tag?: number
  /** What a reader gets where the field is not sent. Absent: 0, false, '', empty, the zero UUID; null for records. */
  readonly default?: number | string | boolean | null
  /** A request may be sent in a version without the field although it is set; else encoding is refused. */
  readonly ignorable?: true
}

/** name, type, first version that has it, the rest. */
export type Field = readonly [name: string, type: FieldType, since: number, options?: FieldOptions]

export interface ApiSchema {
  readonly key: number
  /** Lowest and highest version this table describes. */
  readonly min: number
  readonly max: number
  /** First flexible version (KIP-482); undefined: none. */
  readonly flexibleFrom: number | undefined
  readonly request: readonly Field[]
  readonly response: readonly Field[]
}

// --- message types

/** 22 characters of unpadded URL-safe base64, as Kafka prints topic ids. */
export const ZERO_UUID = 'AAAAAAAAAAAAAAAAAAAAAA'

/**
 * The two values beyond ±2^53 that an int64 may have: Kafka uses Long.MAX_VALUE and Long.MIN_VALUE as sentinels ("no
 * limit"). They are read as these numbers, which compare as they should, and are written back exactly. Every other
 * value beyond ±(2^53 − 1) is refused as MALFORMED_MESSAGE, since a number cannot hold it.
 */
export const INT64_MAX = 2 ** 63
export const INT64_MIN = -(2 ** 63)

interface DecodedScalars {
  bool: boolean
  int8: number
  int16: number
  uint16: number
  int32: number
  int64: number
  float64: number
  uuid: string
  string: string
  bytes: Uint8Array
  records: Uint8Array
  'int8[]': readonly number[]
  'int16[]': readonly number[]
  'int32[]': readonly number[]
  'int64[]': readonly number[]
  'string[]': readonly string[]
  'uuid[]': readonly string[]
}

interface EncodableScalars extends Omit<DecodedScalars, 'records'> {
  /** Several parts are sent one after the other, as one field. */
  records: Uint8Array | readonly Uint8Array[]
}

type OptionsOf<F extends Field> = F extends readonly [string, FieldType, number, infer O]
  ? O
  : Record<never, never>

type NullOf<F extends Field> =
  OptionsOf<F> extends { readonly nullable: number } | { readonly default: null } ? null : never

type DecodedValue<T> = T extends keyof DecodedScalars
  ? DecodedScalars[T]
  : T extends { readonly array: infer E extends readonly Field[] }
    ? readonly Decoded<E>[]
    : T extends { readonly struct: infer E extends readonly Field[] }
      ? Decoded<E>
      : never

/** What reading gives: every field of the table, those newer or older than the version at their default. */
export type Decoded<Fields extends readonly Field[]> = {
  readonly [F in Fields[number] as F[0]]: DecodedValue<F[1]> | NullOf<F>
}

type EncodableValue<T, Min extends number> = T extends keyof EncodableScalars
  ? EncodableScalars[T]
  : T extends { readonly array: infer E extends readonly Field[] }
    ? readonly Encodable<E, Min>[]
    : T extends { readonly struct: infer E extends readonly Field[] }
      ? Encodable<E, Min>
      : never

/** A field may be left out when some version lacks it, or when the table gives it a default. */
type IsOptional<F extends Field, Min extends number> =
  OptionsOf<F> extends
    | { readonly until: number }
    | { readonly tag: number }
    | { readonly default: number | string | boolean | null }
    ? true
    : F[2] extends UpTo<Min>
      ? false
      : true

/** Union of 0..N, for the lowest versions that occur (0 to 4). */
type UpTo<N extends number> = N extends 0
  ? 0
  : N extends 1
    ? 0 | 1
    : N extends 2
      ? 0 | 1 | 2
      : N extends 3
        ? 0 | 1 | 2 | 3
        : 0 | 1 | 2 | 3 | 4

/** What writing takes; `Min` is the lowest version of the API. */
export type Encodable<Fields extends readonly Field[], Min extends number> = {
  readonly [F in Fields[number] as IsOptional<F, Min> extends true ? never : F[0]]:
    | EncodableValue<F[1], Min>
    | NullOf<F>
} & {
  readonly [F in Fields[number] as IsOptional<F, Min> extends true ? F[0] : never]?:
    | EncodableValue<F[1], Min>
    | NullOf<F>
    | undefined
}
