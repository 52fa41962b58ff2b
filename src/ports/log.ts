/**
 * Diagnostic lines for operators. (The data log is always called the partition log.)
 * `fields` are printed as key=value after the message; no secrets, no record contents.
 */
export interface Log {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
}

/** For whoever hears of trouble in another way. */
export const silentLog: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}

export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>
