/**
 * A format as a list of steps to read input by (commands.md, section 3.3, rules 1 and 2): flat, so that a reader can
 * stop at any byte and go on there. What cannot be read back is refused here, with its place in the format.
 */

import {
  type BytesEncoding,
  type FormatNode,
  formatError,
  type NumberForm,
  type NumberOf,
} from './format-plan.ts'
import type { TimePattern } from './format-time.ts'

export type FormatStep =
  | { readonly kind: 'literal'; readonly bytes: Uint8Array }
  | {
      readonly kind: 'bytes'
      readonly of: 'value' | 'key' | 'topic'
      readonly encoding: BytesEncoding
      readonly nullText: Uint8Array | undefined
      /** The literal that ends it; undefined: a length was read before. */
      readonly until: Uint8Array | undefined
      readonly isInHeader: boolean
      readonly text: string
    }
  | {
      readonly kind: 'number'
      readonly of: NumberOf
      readonly form: NumberForm
      readonly text: string
    }
  | {
      readonly kind: 'time'
      readonly pattern: TimePattern
      readonly until: Uint8Array
      readonly text: string
    }
  /** Before the first header; without any goes to step `after`. */
  | { readonly kind: 'headers'; readonly after: number }
  /** Behind each header; with another one goes back to step `inner`. */
  | { readonly kind: 'next-header'; readonly inner: number }

export interface FormatProgram {
  readonly steps: readonly FormatStep[]
  /** The literal at the end, after which reading can go on behind a record in error. */
  readonly finalLiteral: Uint8Array | undefined
  /** The byte tokens of the record, and those of its headers. */
  readonly fieldSteps: readonly BytesStep[]
  readonly headerSteps: readonly BytesStep[]
  readonly hasKey: boolean
  readonly hasTopic: boolean
}

export type BytesStep = Extract<FormatStep, { kind: 'bytes' }>

/** @throws UsageError that names the place */
export function compileFormat(nodes: readonly FormatNode[]): FormatProgram {
  const steps: FormatStep[] = []
  compileInto(steps, nodes, false)
  if (steps.every((step) => step.kind === 'literal')) {
    throw formatError(1, 'no token, so it would read nothing')
  }
  const last = nodes.at(-1)
  const bytesSteps = steps.filter((step) => step.kind === 'bytes')
  const fieldSteps = bytesSteps.filter((step) => !step.isInHeader)
  return {
    steps,
    finalLiteral: last?.kind === 'literal' ? last.bytes : undefined,
    fieldSteps,
    headerSteps: bytesSteps.filter((step) => step.isInHeader),
    hasKey: fieldSteps.some((step) => step.of === 'key'),
    hasTopic: fieldSteps.some((step) => step.of === 'topic'),
  }
}

const lengthTokens = { value: 'value-length', key: 'key-length', topic: 'topic-length' } as const

function compileInto(steps: FormatStep[], nodes: readonly FormatNode[], isInHeader: boolean): void {
  /** Lengths that no token has used yet. */
  const lengths = new Set<NumberOf>()
  for (const [index, node] of nodes.entries()) {
    const next = nodes[index + 1]
    const until = next?.kind === 'literal' ? next.bytes : undefined
    switch (node.kind) {
      case 'literal':
        steps.push(node)
        break
      case 'bytes': {
        const hasLength = lengths.delete(lengthTokens[node.of]) && node.encoding !== 'json'
        if (!hasLength && until === undefined) throw noEnd(node, next)
        const { of, encoding, nullText, text } = node
        steps.push({
          kind: 'bytes',
          of,
          encoding,
          nullText,
          until: hasLength ? undefined : until,
          isInHeader,
          text,
        })
        break
      }
      case 'number':
        checkNumber(node, until)
        lengths.add(node.of)
        steps.push({ kind: 'number', of: node.of, form: node.form, text: node.text })
        break
      case 'time':
        if (node.pattern.kind === 'strftime') {
          throw formatError(node.place, `${node.text} is for output only; to read: ms, s, iso`)
        }
        if (until === undefined) throw noEnd(node, next)
        steps.push({ kind: 'time', pattern: node.pattern, until, text: node.text })
        break
      case 'headers':
        compileHeaders(steps, node, lengths)
        break
      case 'header-list':
        throw formatError(node.place, '%h without {…} is for output only')
      case 'envelope':
        throw formatError(node.place, '%j is for output only; to read envelopes: --json')
    }
  }
}

function compileHeaders(
  steps: FormatStep[],
  node: Extract<FormatNode, { kind: 'headers' }>,
  lengths: ReadonlySet<NumberOf>,
): void {
  if (!lengths.has('header-count')) {
    throw formatError(node.place, '%h{…} needs %H before it, which says how many headers come')
  }
  if (!node.inner.some((inner) => inner.kind === 'bytes' && inner.of === 'key')) {
    throw formatError(node.place, '%h{…} needs %k, the name of the header')
  }
  const start = steps.length
  const inner: FormatStep[] = []
  compileInto(inner, node.inner, true)
  steps.push({ kind: 'headers', after: start + inner.length + 2 }, ...inner, {
    kind: 'next-header',
    inner: start + 1,
  })
}

function noEnd(
  node: { readonly place: number; readonly text: string },
  next: FormatNode | undefined,
): Error {
  const after = next === undefined ? 'the end of the format' : nodeText(next)
  return formatError(
    node.place,
    `to read ${node.text} before ${after}, a literal is needed between them, or its length before it`,
  )
}

function nodeText(node: FormatNode): string {
  return node.kind === 'literal' ? 'a literal' : node.text
}

/** Digits end where no digit follows, which only a literal can tell. */
function checkNumber(
  node: Extract<FormatNode, { kind: 'number' }>,
  until: Uint8Array | undefined,
): void {
  const { place, text, of, form } = node
  if (of === 'log-start' || of === 'last-stable' || of === 'high-watermark') {
    throw formatError(place, `${text} is for output only`)
  }
  if (form.kind === 'binary') return
  if (until === undefined) {
    throw formatError(
      place,
      `to read the digits of ${text}, a literal is needed after it, or binary`,
    )
  }
  const first = String.fromCharCode(until[0] ?? 0)
  if ((form.kind === 'hex' ? /[0-9a-fA-F]/ : /[0-9]/).test(first)) {
    throw formatError(place, `the literal after ${text} begins with a digit`)
  }
}
