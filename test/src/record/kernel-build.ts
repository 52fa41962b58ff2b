/**
 * Compiles the AssemblyScript kernels, so that tests prove that the embedded binaries are what their sources give.
 */
import { readFileSync } from 'node:fs'
import { KERNEL_PAGES } from '../../../src/record/kernel-memory.ts'

const record = new URL('../../../src/record/', import.meta.url)

/** Compiles a kernel over an imported memory (kernel-memory.ts) into the TypeScript module that embeds it. */
export async function embeddedKernel(options: {
  readonly source: URL
  /** As the module's head names its source. */
  readonly sourceName: string
  readonly constant: string
  /** Of its own instead of an imported one. */
  readonly memoryPages?: number
}): Promise<string> {
  const { default: asc } = await import('assemblyscript/asc')
  const walk = readFileSync(new URL('record-walk.assemblyscript', record), 'utf8')
  const sources = new Map([
    ['kernel.ts', readFileSync(options.source, 'utf8')],
    ['record-walk.ts', walk],
  ])
  const pages = String(options.memoryPages ?? KERNEL_PAGES)
  let binary: Uint8Array | undefined
  const { error, stderr } = await asc.main(
    [
      ...['kernel.ts', '--outFile', 'kernel.wasm'],
      ...['-O3', '--enable', 'simd', '--runtime', 'stub', '--noAssert'],
      ...(options.memoryPages === undefined ? ['--importMemory'] : []),
      ...['--initialMemory', pages, '--maximumMemory', pages],
    ],
    {
      readFile: (name: string) => sources.get(name) ?? null,
      writeFile: (name: string, contents: Uint8Array | string) => {
        if (name.endsWith('.wasm')) binary = contents as Uint8Array
      },
      listFiles: () => [],
    },
  )
  if (error !== null || binary === undefined) throw new Error(`asc: ${error} ${stderr}`)
  const lines = Buffer.from(binary)
    .toString('base64')
    .match(/.{1,100}/g)
    ?.map((line) => `  '${line}',`)
  return [
    `/** Compiled from ${options.sourceName}, whose head says how. */`,
    `export const ${options.constant} = [`,
    ...(lines ?? []),
    "].join('')",
    '',
  ].join('\n')
}
