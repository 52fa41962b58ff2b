/**
 * Chooses the kernel that makes records of lines: the scalar one, at once there, until a process has encoded
 * SIMD_AFTER_BYTES; then the WebAssembly one, so that a command that sends a few lines never compiles it.
 */
import { encodeLinesScalar, type LineJob } from './line-kernel.ts'
import { loadSimdKernel } from './line-kernel-simd.ts'

const SIMD_AFTER_BYTES = 64 * 1024
/** Below, copying in and out and the calls cost more than they save. */
const SIMD_BYTES_MIN = 2048

// Process-wide by intent: a cache of compiled code, not state.
let simd: ((job: LineJob) => void) | undefined
let simdTried = false
let bytesSoFar = 0

/** Takes whole lines until the source ends or the target is full; see LineJob. */
export function encodeLines(job: LineJob): void {
  const sourceBytes = job.sourceEnd - job.sourceAt
  if (sourceBytes >= SIMD_BYTES_MIN) {
    if (!simdTried) {
      bytesSoFar += sourceBytes
      if (bytesSoFar > SIMD_AFTER_BYTES) {
        simdTried = true
        simd = loadSimdKernel()
      }
    }
    if (simd !== undefined) {
      simd(job)
      return
    }
  }
  encodeLinesScalar(job)
}
