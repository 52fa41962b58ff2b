/** Writes the manual: `node man/generate.ts DIRECTORY` (dist/man in a build). */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { makeManPages } from './pages.ts'

const directory = process.argv[2] ?? 'dist/man'
const manifest = JSON.parse(
  readFileSync(join(import.meta.dirname, '..', 'package.json'), 'utf8'),
) as { readonly version: string }
mkdirSync(directory, { recursive: true })
for (const { fileName, roff } of await makeManPages(manifest.version)) {
  writeFileSync(join(directory, fileName), roff)
}
