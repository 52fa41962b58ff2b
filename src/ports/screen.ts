/** A screen that is drawn again and again on a terminal. Real: src/io/ink-screen.ts. */
export interface Screens {
  /**
   * Takes the terminal's keys.
   * @param options.onQuit  the user pressed q, Escape or Ctrl-C
   */
  openScreen(options: { readonly color: boolean; onQuit(): void }): Screen
}

export interface ScreenTable {
  readonly title: string
  readonly columns: readonly string[]
  /** Cells as they are shown; safe for a terminal. */
  readonly rows: readonly (readonly string[])[]
  /** Columns whose cells are aligned to the right. */
  readonly right: ReadonlySet<number>
}

export interface ScreenModel {
  readonly head: string
  readonly tables: readonly ScreenTable[]
  readonly foot: string
}

export interface Screen {
  draw(model: ScreenModel): void
  /** Leaves the terminal as it was, with the last model on it. */
  close(): Promise<void>
}
