#!/usr/bin/env node
// What `stream` runs first: a bundle beside it, compiled from the code cache that the build made of it. Compiling is
// half of what a short command costs. A cache that another Node made is refused by V8, and all works without it.
'use strict'
const { readFileSync } = require('node:fs')
const { Script } = require('node:vm')

// The frequent commands are small bundles; those have no pages of help.
const hot = { produce: 'produce', consume: 'read', cat: 'read', tail: 'read' }
const words = process.argv.slice(2)
const asksForHelp = words.some((word) => /^(--help|-[^-]*h)/.test(word))
const name = asksForHelp || !Object.hasOwn(hot, words[0] ?? '') ? 'main' : hot[words[0]]
// What shows help speaks to no daemon: the rest of the same bundle is of no use to it.
const cache = asksForHelp || words.length === 0 || words[0] === 'help' ? 'help' : name

const filename = `${__dirname}/stream-${name}.cjs`
let cachedData
try {
  cachedData = readFileSync(`${__dirname}/stream-${cache}.cache`)
} catch {}
const script = new Script(readFileSync(filename, 'latin1'), { filename, cachedData })
const body = script.runInThisContext()
body(exports, require, module, filename, __dirname)
