/** Finds the binary of the zeromq package that fits this machine, in the package's own manifest. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { StreamError } from '../base/errors.ts'

interface BuildTarget {
  readonly os: string
  readonly arch: string
  readonly runtime: string
  readonly abi: number
  readonly libc: string
}

/**
 * @param packageDirectory  where zeromq's package.json is
 * @returns the path of the addon: the newest interface version that this Node can load
 * @throws StreamError RUNTIME_MISSING
 */
export function findZeromqAddon(packageDirectory: string): string {
  const build = join(packageDirectory, 'build')
  const manifest = JSON.parse(readFileSync(join(build, 'manifest.json'), 'utf8')) as Record<
    string,
    string
  >
  const abiMax = Number(process.versions.modules)
  const libc = process.platform === 'linux' ? linuxLibc() : undefined
  let best: { abi: number; path: string } | undefined
  for (const [description, path] of Object.entries(manifest)) {
    const target = JSON.parse(description) as BuildTarget
    const fits =
      target.os === process.platform &&
      target.arch === process.arch &&
      target.runtime === 'node' &&
      target.abi <= abiMax &&
      (libc === undefined || target.libc === libc)
    if (fits && (best === undefined || target.abi > best.abi)) best = { abi: target.abi, path }
  }
  if (best === undefined) {
    throw new StreamError(
      'RUNTIME_MISSING',
      `zeromq has no binary for ${process.platform} ${process.arch}`,
    )
  }
  return join(build, best.path)
}

/** A glibc names its version in the process report; musl does not. */
function linuxLibc(): 'glibc' | 'musl' {
  // Leaves out the network interfaces, which take milliseconds; Node's types do not know the switch yet.
  const settings = process.report as { excludeNetwork?: boolean }
  const before = settings.excludeNetwork ?? false
  settings.excludeNetwork = true
  const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } }
  settings.excludeNetwork = before
  return report.header?.glibcVersionRuntime === undefined ? 'musl' : 'glibc'
}
