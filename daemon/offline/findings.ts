/** What a check finds, and how it can be mended. */
import type { FindingState, OfflineFinding } from '../../src/ports/offline.ts'

export type Mended = Extract<FindingState, 'repaired' | 'set-aside' | 'gone' | 'left'>

export interface Finding extends OfflineFinding {
  /** Brings the file in order; findings that are mended by one act share it. Absent: nobody but a person can. */
  readonly mend?: Mend
}

/** One act of repair, done once however many findings ask for it. */
export class Mend {
  readonly #act: () => Promise<void>
  readonly #outcome: Mended
  #done: Promise<void> | undefined

  constructor(outcome: Mended, act: () => Promise<void>) {
    this.#outcome = outcome
    this.#act = act
  }

  async run(): Promise<Mended> {
    this.#done ??= this.#act()
    await this.#done
    return this.#outcome
  }

  /** The same act, told as another outcome. */
  as(outcome: Mended): Mend {
    return new Mend(outcome, async () => {
      await this.run()
    })
  }
}

/** Whether it needs no mending: what a crash leaves, and what is only said. */
export function isHarmless(finding: OfflineFinding): boolean {
  return finding.state === 'torn' || finding.state === 'note'
}
