/** The messages of one login. */
export interface SaslExchange {
  /**
   * The next message; the first is asked for without a challenge. undefined: done, on this side.
   * @throws StreamError NOT_ALLOWED, MALFORMED_MESSAGE
   */
  next(challenge: Uint8Array | undefined): Promise<Uint8Array | undefined>
}
