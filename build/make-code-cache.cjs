// Runs one real command through a bundle and writes what was compiled on the way, with what the cache had before, as CACHE.new.
//   node make-code-cache.cjs BUNDLE CACHE -- produce TOPIC …
'use strict'
const { existsSync, readFileSync, writeFileSync } = require('node:fs')
const { createRequire } = require('node:module')
const { dirname } = require('node:path')
const { Script } = require('node:vm')

const [filename, cache, , ...words] = process.argv.slice(2)
const cachedData = existsSync(cache) ? readFileSync(cache) : undefined
const script = new Script(readFileSync(filename, 'latin1'), { filename, cachedData })
process.argv = [process.argv[0], filename, ...words]
// Commands end by reallyExit, which tells no listener.
const { reallyExit } = process
process.reallyExit = (code) => {
  if (code === 0) writeFileSync(`${cache}.new`, script.createCachedData())
  reallyExit.call(process, code)
}
script.runInThisContext()({}, createRequire(filename), {}, filename, dirname(filename))
