// Loads a module for a bundle: loader.cjs compiles those by itself, and import() is not to be had in what it compiles.
'use strict'
module.exports = (path) => import(path)
