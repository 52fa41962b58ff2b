/** Whether bytes are UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF). */

import { isUtf8 } from 'node:buffer'

/** Below this many bytes a loop beats the call into native code (performance.md, section 2). */
const NATIVE_FROM_BYTES = 256

export function isUtf8Range(bytes: Uint8Array, start: number, end: number): boolean {
  const asciiEnd = Math.min(end, start + NATIVE_FROM_BYTES)
  for (let at = start; at < asciiEnd; at += 1) {
    if ((bytes[at] as number) > 0x7f) return isUtf8(bytes.subarray(at, end))
  }
  return asciiEnd === end || isUtf8(bytes.subarray(asciiEnd, end))
}
