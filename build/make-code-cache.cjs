// Runs one real command through the bundle and writes the code cache of what was compiled on the way.
//   node make-code-cache.cjs DIST -- produce TOPIC …
'use strict'
const { readFileSync, writeFileSync } = require('node:fs')
const { createRequire } = require('node:module')
const { join } = require('node:path')
const { Script } = require('node:vm')

const [dist, , ...words] = process.argv.slice(2)
const filename = join(dist, 'stream-main.cjs')
const script = new Script(readFileSync(filename, 'latin1'), { filename })
process.argv = [process.argv[0], filename, ...words]
// Commands end by reallyExit, which tells no listener.
const { reallyExit } = process
process.reallyExit = (code) => {
  if (code === 0) writeFileSync(join(dist, 'stream-main.cache'), script.createCachedData())
  reallyExit.call(process, code)
}
script.runInThisContext()({}, createRequire(filename), {}, filename, dist)
