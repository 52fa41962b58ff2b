/** The flags of `consume --exec`; the plan that follows from them is exec-plan.ts. */

import type { OptionSpec } from './option-table.ts'

// biome-ignore format: one row, one line
export const execOptions: readonly OptionSpec[] = [
  { long: 'exec', argument: 'CMD', help: 'with --group: run sh -c CMD for each record, which is done when that exits 0' },
  { long: 'batch', argument: 'N', default: '1', help: 'with --exec: up to so many records of a partition for one run of the command' },
  { long: 'parallel', short: 'P', argument: 'N', default: '1', help: 'with --exec: commands at once; order is kept per key, of records without one per partition' },
  { long: 'success', argument: 'CODES', default: '0', help: 'with --exec: exit codes that mean that it is done: 0,1' },
  { long: 'retry', argument: 'N,A..B', default: '5,1s..1m', help: 'with --exec: how often a failure is tried again; the first pause and the longest' },
  { long: 'on-fail', argument: 'WHAT', choices: ['stop', 'dlq', 'bisect'], default: 'stop', help: 'with --exec, when all that failed: stop; dlq: put the records aside in GROUP.dlq and go on; bisect: halve the batch, put aside what fails alone' },
  { long: 'child-timeout', argument: 'DUR', help: 'with --exec: a command that runs longer is ended, and has failed' },
  { long: 'grace', argument: 'DUR', default: '10s', help: 'with --exec: how long a command may go on when the run ends or its partition goes; then SIGTERM, and as long after it SIGKILL' },
]
