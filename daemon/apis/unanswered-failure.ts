/** What no error code can carry: the client hears of it by the end of its connection, or by a notice, and takes the outcome as unknown. */
export class UnansweredFailure extends Error {
  override readonly name = 'UnansweredFailure'
}
