/**
 * The closed table of operating errors, and the two error classes that may cross a module's boundary.
 * Callers switch on `code`, never on text. A StreamError becomes one line on stderr (cmd/main.ts) or one Kafka
 * error number (src/protocol/error-codes.ts maps the codes that have one).
 */

/** What an operating error means for whoever called; `exit` is the command's exit code (commands.md, section 7). */
interface ErrorRow {
  readonly retriable: boolean
  readonly exit: number
}

export const errorTable = {
  // --- disk and data directory
  DISK_FULL: { retriable: true, exit: 1 },
  DISK_FAILED: { retriable: false, exit: 1 },
  DISK_READ_ONLY: { retriable: false, exit: 6 },
  PERMISSION_DENIED: { retriable: false, exit: 6 },
  FILE_NOT_FOUND: { retriable: false, exit: 3 },
  DIRECTORY_LOCKED: { retriable: false, exit: 8 },
  DATA_DAMAGED: { retriable: false, exit: 5 },
  DATA_DIRECTORY_INVALID: { retriable: false, exit: 1 },
  // --- bytes from a wire or a file
  MALFORMED_MESSAGE: { retriable: false, exit: 1 },
  CORRUPT_BATCH: { retriable: false, exit: 5 },
  UNSUPPORTED_COMPRESSION: { retriable: false, exit: 1 },
  DECOMPRESSION_LIMIT: { retriable: false, exit: 5 },
  RECORD_INVALID: { retriable: false, exit: 5 },
  RECORD_TOO_LARGE: { retriable: false, exit: 5 },
  // --- network
  UNREACHABLE: { retriable: true, exit: 4 },
  BROKER_GONE: { retriable: true, exit: 4 },
  CONNECTION_LOST: { retriable: true, exit: 4 },
  TIMED_OUT: { retriable: true, exit: 7 },
  ADDRESS_IN_USE: { retriable: false, exit: 1 },
  ADDRESS_INVALID: { retriable: false, exit: 2 },
  UNSUPPORTED_BY_BROKER: { retriable: false, exit: 2 },
  // --- broker answers (the Kafka error stays in `kafkaError`)
  BROKER_ERROR: { retriable: false, exit: 1 },
  TOPIC_UNKNOWN: { retriable: true, exit: 3 },
  TOPIC_EXISTS: { retriable: false, exit: 8 },
  TOPIC_NAME_INVALID: { retriable: false, exit: 2 },
  OFFSET_OUT_OF_RANGE: { retriable: false, exit: 5 },
  NOT_DELIVERED: { retriable: false, exit: 5 },
  FENCED: { retriable: false, exit: 8 },
  CONFLICT: { retriable: false, exit: 8 },
  NOT_CONTROLLER: { retriable: true, exit: 4 },
  NOT_ALLOWED: { retriable: false, exit: 6 },
  CONFIG_INVALID: { retriable: false, exit: 2 },
  // --- the command's own surroundings
  NAME_UNKNOWN: { retriable: false, exit: 3 },
  SECRET_UNAVAILABLE: { retriable: false, exit: 6 },
  // --- programs that a command runs
  CHILD_FAILED: { retriable: false, exit: 9 },
  // --- metadata store
  STORE_UNAVAILABLE: { retriable: true, exit: 4 },
  STORE_DAMAGED: { retriable: false, exit: 1 },
  // --- life of a process
  CLOSED: { retriable: false, exit: 1 },
  OUTPUT_FAILED: { retriable: false, exit: 1 },
  RUNTIME_MISSING: { retriable: false, exit: 1 },
} as const satisfies Record<string, ErrorRow>

export type ErrorCode = keyof typeof errorTable

export interface ErrorDetails {
  /** What the user can do next; printed after the message. */
  readonly hint?: string
  /** What the error is about: a topic, a file, an address. */
  readonly target?: string
  /** Input line, for errors of a record. */
  readonly line?: number
  /** Kafka's number, where a broker answered with one. */
  readonly kafkaError?: number
  readonly cause?: unknown
}

/** An operating error: something outside the program did not hold. */
export class StreamError extends Error {
  override readonly name = 'StreamError'
  readonly code: ErrorCode
  readonly hint: string | undefined
  readonly target: string | undefined
  readonly line: number | undefined
  readonly kafkaError: number | undefined

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.hint = details.hint
    this.target = details.target
    this.line = details.line
    this.kafkaError = details.kafkaError
  }

  get retriable(): boolean {
    return errorTable[this.code].retriable
  }

  get exit(): number {
    return errorTable[this.code].exit
  }
}

/** Where in a word of the command line something is wrong; on a terminal it is underlined. */
export interface ErrorPlace {
  /** The whole word, or the value of a flag. */
  readonly text: string
  /** In characters. */
  readonly at: number
  readonly length: number
}

/** The command line itself is wrong: exit 2, with a hint that can be typed. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
  readonly hint: string | undefined
  readonly place: ErrorPlace | undefined

  constructor(message: string, hint?: string, place?: ErrorPlace) {
    super(message)
    this.hint = hint
    this.place = place
  }
}

export function isStreamError(error: unknown, code?: ErrorCode): error is StreamError {
  return error instanceof StreamError && (code === undefined || error.code === code)
}

/**
 * An error of a part of the program that was loaded beside this one, and so has classes of its own, as one of this part's.
 * What is no such error comes back as it is.
 */
export function adoptError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof StreamError || error instanceof UsageError) {
    return error
  }
  if (error.name === 'UsageError') return new UsageError(error.message, (error as UsageError).hint)
  const { code } = error as StreamError
  if (error.name !== 'StreamError' || !Object.hasOwn(errorTable, code)) return error
  const { message, hint, target, line, kafkaError } = error as StreamError
  return new StreamError(code, message, {
    cause: error,
    ...(hint === undefined ? {} : { hint }),
    ...(target === undefined ? {} : { target }),
    ...(line === undefined ? {} : { line }),
    ...(kafkaError === undefined ? {} : { kafkaError }),
  })
}
