/**
 * One seed for every property test of the normal run, so that a run of the same commit sees the same cases and a failure in it is
 * a failure of the commit. `FUZZ_SEED=N` chooses another; `FUZZ_SEED=random` a new one each time, for the long runs.
 */
import fc from 'fast-check'

const wanted = process.env['FUZZ_SEED'] ?? '20261121'
if (wanted !== 'random') fc.configureGlobal({ seed: Number(wanted) })
