/** `pipe --explain`: what the flags promise, in words (commands.md, section 6). */

import { formatDuration, formatSize } from '../src/text/units.ts'
import type { CommandDeps } from './deps.ts'
import type { PipePlan } from './pipe-plan.ts'
import { printText } from './row-output.ts'

export async function explainPipe(deps: CommandDeps, plan: PipePlan): Promise<number> {
  await printText(deps.stdio.output, `${linesOf(plan).join('\n')}\n`)
  return 0
}

function linesOf(plan: PipePlan): string[] {
  const { read, out, job, barrier } = plan
  const source = read === undefined ? 'what CMD prints' : read.topics.join(', ')
  const target = out === undefined ? 'CMD' : out.topic
  return [
    `flow       ${source} -> ${target}`,
    `barrier    ${barrier}: ${barrierWords(plan)}`,
    `guarantee  ${guaranteeOf(plan)}`,
    `not        ${exceptionOf(plan)}`,
    `positions  ${job === undefined ? 'none are kept: every run begins anew (no --job)' : `group ${job}, committed with what was made of the records before them`}`,
    ...(read === undefined ? [] : [`epoch      ${epochWords(plan)}`]),
    ...(plan.carry === undefined
      ? []
      : [
          `carry      ${plan.carry.path}, one for each ${plan.carry.by}, committed with the outputs`,
        ]),
    ...(read === undefined ? [] : [`failure    ${failureWords(plan)}`]),
  ]
}

function barrierWords({ barrier, read, isPartial }: PipePlan): string {
  if (read === undefined) {
    if (barrier === 'line') return 'each line is durable before more is read'
    return barrier === 'exit' ? 'all of it at exit 0' : 'what lies before each line `state JSON`'
  }
  switch (barrier) {
    case 'exit':
      return isPartial
        ? 'done when CMD exits well, whatever it has read'
        : 'done when CMD has read all of its input and exits well'
    case 'line':
      return 'line k of the output answers line k of the input; an empty line drops it'
    case 'ack':
      return 'done is what CMD acknowledges'
    case 'none':
      return 'done is what was written to CMD'
  }
}

function guaranteeOf({ read, out, job, barrier, isFixed }: PipePlan): string {
  if (read === undefined) return 'each line that was read is stored once'
  if (barrier === 'none') return 'at least once at best, at most once for what CMD has buffered'
  if (out === undefined) {
    const key = isFixed ? '; once in effect, if the target keys on STREAM_BATCH_ID' : ''
    if (barrier === 'exit') return `at least once for each epoch${key}`
    return barrier === 'line'
      ? 'at least once for each line'
      : 'at least once; once, if CMD stores offsets and STREAM_FENCE in the transaction of its target and tells them by `ready`'
  }
  const honest = barrier === 'ack' ? ', if CMD is honest' : ''
  const once = `exactly once${honest}, for readers of committed records`
  return job === undefined ? `${once}, within this run` : once
}

function exceptionOf({ read, out, barrier }: PipePlan): string {
  if (read === undefined)
    return 'what CMD loses or repeats when it is started again without `state`'
  switch (barrier) {
    case 'exit':
      return out === undefined
        ? 'effects outside that are not keyed; ids across a bisection'
        : 'noticing a CMD that takes all of its input and ignores some; effects outside'
    case 'line':
      return 'what CMD remembers when it is started again; a CMD that buffers its output stalls'
    case 'ack':
      return 'anything, if CMD acknowledges early'
    case 'none':
      return 'any tie between output and input'
  }
}

function epochWords({ limits, grows, barrier }: PipePlan): string {
  const { records, bytes, ms } = limits
  const size = `${records} records, ${formatSize(bytes)} or ${formatDuration(ms)}`
  const what = barrier === 'exit' ? 'one run of CMD' : 'one transaction'
  const growth = grows ? ', more records while starting CMD takes over a tenth of a run' : ''
  return `${what} over ${size}${growth}`
}

function failureWords({ retry, onFail, dlq, words, childTimeoutMs }: PipePlan): string {
  const times = `${retry.times} more ${retry.times === 1 ? 'attempt' : 'attempts'}`
  const then = {
    stop: 'the job stops with exit 9',
    dlq: `all records of the epoch go to ${dlq ?? ''}`,
    bisect: `the epoch is halved until one record fails alone, which goes to ${dlq ?? ''}`,
  }[onFail]
  return `${words[0]} that fails, or takes over ${formatDuration(childTimeoutMs)}: ${times}, then ${then}`
}
