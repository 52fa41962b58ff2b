// Runs one real command through a bundle and writes the code cache of what was compiled on the way, beside the bundle.
//   node make-code-cache.cjs BUNDLE -- produce TOPIC …
'use strict'
const { readFileSync, writeFileSync } = require('node:fs')
const { createRequire } = require('node:module')
const { dirname } = require('node:path')
const { Script } = require('node:vm')

const [filename, , ...words] = process.argv.slice(2)
const script = new Script(readFileSync(filename, 'latin1'), { filename })
process.argv = [process.argv[0], filename, ...words]
// Commands end by reallyExit, which tells no listener.
const { reallyExit } = process
process.reallyExit = (code) => {
  if (code === 0) writeFileSync(filename.replace(/cjs$/, 'cache'), script.createCachedData())
  reallyExit.call(process, code)
}
script.runInThisContext()({}, createRequire(filename), {}, filename, dirname(filename))
