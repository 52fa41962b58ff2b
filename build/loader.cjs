#!/usr/bin/env node
// What `stream` runs first: the bundle beside it, compiled from the code cache that the build made of it. Compiling is
// half of what a short command costs. A cache that another Node made is refused by V8, and all works without it.
'use strict'
const { readFileSync } = require('node:fs')
const { Script } = require('node:vm')

const filename = `${__dirname}/stream-main.cjs`
let cachedData
try {
  cachedData = readFileSync(`${__dirname}/stream-main.cache`)
} catch {}
const script = new Script(readFileSync(filename, 'latin1'), { filename, cachedData })
const body = script.runInThisContext()
body(exports, require, module, filename, __dirname)
