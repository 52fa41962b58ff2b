/**
 * Regular expressions over topic names, in time linear in the name: a non-deterministic automaton that is walked with all
 * its states at once, because patterns come from clients and must not be able to stop the coordinator (P12). Kafka uses
 * RE2J; this is the part of its syntax that means something for names of `[a-zA-Z0-9._-]`:
 *
 *     literals, escapes (\. \\ \d \D \w \W \s \S \x2d), ., [a-z], [^a-z], (…), (?:…), (?i), |, * + ? {n} {n,} {n,m}, lazy
 *     forms of these (the same here: only whether a whole name matches is asked), ^ $ \A \z
 *
 * A name matches as a whole. What is not known (look-around, back-references, \b, \p{…}) is refused.
 */

type Test = (code: number) => boolean

/** Where a walk stands: consume a character, or go on without one. */
type Node =
  | { readonly kind: 'test'; readonly test: Test; readonly next: number }
  | { readonly kind: 'split'; next: number[] }
  | { readonly kind: 'start'; readonly next: number }
  | { readonly kind: 'end'; readonly next: number }
  | { readonly kind: 'match' }

type Tree =
  | { readonly kind: 'empty' }
  | { readonly kind: 'test'; readonly test: Test }
  | { readonly kind: 'start' | 'end' }
  | { readonly kind: 'sequence' | 'choice'; readonly parts: readonly Tree[] }
  | { readonly kind: 'repeat'; readonly part: Tree; readonly min: number; readonly max: number }

const PATTERN_LENGTH_MAX = 4096
const NODES_MAX = 10_000
const DEPTH_MAX = 100
const REPEAT_MAX = 1000

export class TopicPattern {
  readonly source: string
  readonly #nodes: readonly Node[]

  private constructor(source: string, nodes: readonly Node[]) {
    this.source = source
    this.#nodes = nodes
  }

  /** @returns why the pattern is none, in words, where it is none */
  static parse(source: string): TopicPattern | string {
    if (source.length > PATTERN_LENGTH_MAX) return `it is longer than ${PATTERN_LENGTH_MAX}`
    try {
      return new TopicPattern(source, compile(new Parser(source).parse()))
    } catch (error) {
      if (error instanceof PatternDefect) return error.message
      throw error
    }
  }

  matches(name: string): boolean {
    let current = this.#closure([0], 0, name.length)
    for (let at = 0; at < name.length; at += 1) {
      const code = name.charCodeAt(at)
      const reached: number[] = []
      for (const index of current) {
        const node = this.#nodes[index]
        if (node?.kind === 'test' && node.test(code)) reached.push(node.next)
      }
      if (reached.length === 0) return false
      current = this.#closure(reached, at + 1, name.length)
    }
    for (const index of current) if (this.#nodes[index]?.kind === 'match') return true
    return false
  }

  /** All that is reached without a character. */
  #closure(from: readonly number[], at: number, length: number): ReadonlySet<number> {
    const reached = new Set<number>()
    const open = [...from]
    for (let index = open.pop(); index !== undefined; index = open.pop()) {
      if (reached.has(index)) continue
      reached.add(index)
      const node = this.#nodes[index]
      if (node?.kind === 'split') open.push(...node.next)
      else if (node?.kind === 'start' && at === 0) open.push(node.next)
      else if (node?.kind === 'end' && at === length) open.push(node.next)
    }
    return reached
  }
}

class PatternDefect extends Error {}

function compile(tree: Tree): readonly Node[] {
  const nodes: Node[] = []
  const add = (node: Node): number => {
    nodes.push(node)
    return nodes.length - 1
  }
  let steps = 0
  /** @returns where the walk through `part` begins, if it is to go on at `next` */
  const build = (part: Tree, next: number): number => {
    steps += 1
    if (steps > NODES_MAX) throw new PatternDefect('it is too large')
    switch (part.kind) {
      case 'empty':
        return next
      case 'test':
        return add({ kind: 'test', test: part.test, next })
      case 'start':
      case 'end':
        return add({ kind: part.kind, next })
      case 'sequence':
        return part.parts.reduceRight((after, each) => build(each, after), next)
      case 'choice':
        return add({ kind: 'split', next: part.parts.map((each) => build(each, next)) })
      case 'repeat':
        return buildRepeat(part, next)
    }
  }
  const buildRepeat = (
    { part, min, max }: Extract<Tree, { kind: 'repeat' }>,
    next: number,
  ): number => {
    let after = next
    if (max === Number.POSITIVE_INFINITY) {
      const loop: Extract<Node, { kind: 'split' }> = { kind: 'split', next: [next] }
      after = add(loop)
      loop.next = [build(part, after), next]
    } else {
      for (let count = max; count > min; count -= 1) {
        after = add({ kind: 'split', next: [build(part, after), next] })
      }
    }
    for (let count = 0; count < min; count += 1) after = build(part, after)
    return after
  }
  // The walk begins at the first node.
  const begin: Extract<Node, { kind: 'split' }> = { kind: 'split', next: [] }
  add(begin)
  begin.next = [build(tree, add({ kind: 'match' }))]
  return nodes
}

class Parser {
  readonly #source: string
  #at = 0
  #ignoresCase = false
  #depth = 0

  constructor(source: string) {
    this.#source = source
  }

  parse(): Tree {
    const tree = this.#choice()
    if (this.#at < this.#source.length) throw new PatternDefect('a ) without its (')
    return tree
  }

  #choice(): Tree {
    this.#depth += 1
    if (this.#depth > DEPTH_MAX) throw new PatternDefect('its groups are too deep')
    const parts = [this.#sequence()]
    while (this.#take('|')) parts.push(this.#sequence())
    this.#depth -= 1
    return parts.length === 1 ? (parts[0] as Tree) : { kind: 'choice', parts }
  }

  #sequence(): Tree {
    const parts: Tree[] = []
    while (this.#at < this.#source.length && !this.#isNext('|') && !this.#isNext(')')) {
      parts.push(this.#repeated(this.#atom()))
    }
    return { kind: 'sequence', parts }
  }

  #repeated(atom: Tree): Tree {
    let part = atom
    for (;;) {
      const range = this.#repetition()
      if (range === undefined) return part
      this.#take('?')
      part = { kind: 'repeat', part, min: range[0], max: range[1] }
    }
  }

  #repetition(): readonly [min: number, max: number] | undefined {
    if (this.#take('*')) return [0, Number.POSITIVE_INFINITY]
    if (this.#take('+')) return [1, Number.POSITIVE_INFINITY]
    if (this.#take('?')) return [0, 1]
    const counts = /^\{(\d+)(,(\d*))?\}/.exec(this.#source.slice(this.#at, this.#at + 12))
    if (counts === null) return undefined
    this.#at += counts[0].length
    const min = Number(counts[1])
    const max =
      counts[2] === undefined
        ? min
        : counts[3] === ''
          ? Number.POSITIVE_INFINITY
          : Number(counts[3])
    if (max < min || min > REPEAT_MAX || (Number.isFinite(max) && max > REPEAT_MAX)) {
      throw new PatternDefect(`${counts[0]}: no such repetition`)
    }
    return [min, max]
  }

  #atom(): Tree {
    const character = this.#next()
    switch (character) {
      case '.':
        return { kind: 'test', test: () => true }
      case '^':
        return { kind: 'start' }
      case '$':
        return { kind: 'end' }
      case '(':
        return this.#group()
      case '[':
        return { kind: 'test', test: this.#class() }
      case '\\':
        return this.#escape()
      case '*':
      case '+':
      case '?':
        throw new PatternDefect(`${character} has nothing before it to repeat`)
      default:
        return { kind: 'test', test: this.#literal(character.charCodeAt(0)) }
    }
  }

  #group(): Tree {
    const ignoredBefore = this.#ignoresCase
    if (this.#take('?')) {
      if (this.#take('i)')) {
        // For the rest of the group that it stands in.
        this.#ignoresCase = true
        return { kind: 'empty' }
      }
      if (this.#take('i:')) this.#ignoresCase = true
      else if (!this.#take(':') && !this.#takeName()) {
        throw new PatternDefect('(? with this behind it is not supported')
      }
    }
    const tree = this.#choice()
    this.#ignoresCase = ignoredBefore
    if (!this.#take(')')) throw new PatternDefect('a ( without its )')
    return tree
  }

  #takeName(): boolean {
    const name = /^P?<[A-Za-z_]\w*>/.exec(this.#source.slice(this.#at, this.#at + 64))
    this.#at += name?.[0].length ?? 0
    return name !== null
  }

  #escape(): Tree {
    if (this.#take('A')) return { kind: 'start' }
    if (this.#take('z')) return { kind: 'end' }
    return { kind: 'test', test: this.#escaped() }
  }

  /** Behind the backslash. */
  #escaped(): Test {
    const character = this.#next()
    const set = classes.get(character)
    if (set !== undefined) return set
    if (character === 'x') {
      const digits = /^(?:[0-9a-fA-F]{2}|\{[0-9a-fA-F]{1,6}\})/.exec(this.#source.slice(this.#at))
      if (digits === null) throw new PatternDefect('\\x without its two digits')
      this.#at += digits[0].length
      return this.#literal(Number.parseInt(digits[0].replace(/[{}]/g, ''), 16))
    }
    if (/[A-Za-z0-9]/.test(character)) throw new PatternDefect(`\\${character} is not supported`)
    return this.#literal(character.charCodeAt(0))
  }

  #class(): Test {
    const isNegated = this.#take('^')
    const tests: Test[] = []
    let isFirst = true
    while (isFirst || !this.#isNext(']')) {
      isFirst = false
      if (this.#take('[:')) {
        tests.push(this.#named())
        continue
      }
      const first = this.#classCharacter()
      if (typeof first !== 'number') {
        tests.push(first)
        continue
      }
      const isRange = this.#isNext('-') && this.#source[this.#at + 1] !== ']'
      if (!isRange) {
        tests.push(this.#literal(first))
        continue
      }
      this.#take('-')
      const last = this.#classCharacter()
      if (typeof last !== 'number' || last < first)
        throw new PatternDefect('a range without its end')
      tests.push(this.#range(first, last))
    }
    this.#take(']')
    return (code) => tests.some((test) => test(code)) !== isNegated
  }

  #classCharacter(): number | Test {
    const character = this.#next()
    if (character !== '\\') return character.charCodeAt(0)
    const next = this.#source[this.#at] ?? ''
    if (classes.has(next) || next === 'x') return this.#escaped()
    const literal = this.#next()
    if (/[A-Za-z0-9]/.test(literal)) throw new PatternDefect(`\\${literal} is not supported`)
    return literal.charCodeAt(0)
  }

  #named(): Test {
    const name = /^(\w+):\]/.exec(this.#source.slice(this.#at, this.#at + 16))
    const test = names.get(name?.[1] ?? '')
    if (name === null || test === undefined) throw new PatternDefect('no such class of characters')
    this.#at += name[0].length
    return test
  }

  #literal(code: number): Test {
    return this.#range(code, code)
  }

  #range(first: number, last: number): Test {
    const isIn = (code: number): boolean => code >= first && code <= last
    if (!this.#ignoresCase) return isIn
    return (code) => isIn(code) || isIn(lower(code)) || isIn(upper(code))
  }

  #next(): string {
    const character = this.#source[this.#at]
    if (character === undefined) throw new PatternDefect('it ends too early')
    this.#at += 1
    return character
  }

  #isNext(text: string): boolean {
    return this.#source.startsWith(text, this.#at)
  }

  #take(text: string): boolean {
    if (!this.#isNext(text)) return false
    this.#at += text.length
    return true
  }
}

const isDigit: Test = (code) => code >= 0x30 && code <= 0x39
const isUpper: Test = (code) => code >= 0x41 && code <= 0x5a
const isLower: Test = (code) => code >= 0x61 && code <= 0x7a
const isLetter: Test = (code) => isUpper(code) || isLower(code)
const isAlphanumeric: Test = (code) => isLetter(code) || isDigit(code)
const isWord: Test = (code) => isAlphanumeric(code) || code === 0x5f
const isSpace: Test = (code) => code === 0x20 || (code >= 0x09 && code <= 0x0d)

const classes: ReadonlyMap<string, Test> = new Map([
  ['d', isDigit],
  ['D', (code: number) => !isDigit(code)],
  ['w', isWord],
  ['W', (code: number) => !isWord(code)],
  ['s', isSpace],
  ['S', (code: number) => !isSpace(code)],
])

const names: ReadonlyMap<string, Test> = new Map([
  ['alpha', isLetter],
  ['digit', isDigit],
  ['alnum', isAlphanumeric],
  ['upper', isUpper],
  ['lower', isLower],
  ['word', isWord],
])

function lower(code: number): number {
  return isUpper(code) ? code + 0x20 : code
}

function upper(code: number): number {
  return isLower(code) ? code - 0x20 : code
}
