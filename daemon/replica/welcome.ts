/**
 * Whether the daemons of a cluster let this one in, asked before it registers: one without their key would take replicas on and
 * never fill them. A daemon that does not answer says nothing.
 */
import { isStreamError, StreamError } from '../../src/base/errors.ts'
import type { Net } from '../../src/ports/net.ts'
import type { Time } from '../../src/ports/time.ts'

const ANSWER_MS_MAX = 2000

export interface PeerDoor {
  readonly nodeId: number
  /** `tcp://host:port` */
  readonly endpoint: string
}

/** @throws StreamError NOT_ALLOWED: by the first that has refused */
export async function assertWelcome(
  time: Time,
  net: Net,
  doors: readonly PeerDoor[],
): Promise<void> {
  const refusals = await Promise.all(doors.map(({ endpoint }) => knock(time, net, endpoint)))
  for (const [index, refusal] of refusals.entries()) {
    if (refusal === undefined) continue
    throw new StreamError(
      'NOT_ALLOWED',
      `broker ${doors[index]?.nodeId} does not let this daemon in: ${refusal.message}`,
      {
        target: doors[index]?.endpoint ?? '',
        hint: 'all daemons of a cluster need the same key file: -X stream.curve.key.file=FILE',
        cause: refusal,
      },
    )
  }
}

/** @returns why it has refused; undefined: it has not, or nothing was heard */
function knock(time: Time, net: Net, endpoint: string): Promise<StreamError | undefined> {
  return new Promise((resolve) => {
    const timer = time.setTimer(ANSWER_MS_MAX, () => end(undefined))
    const end = (refusal: StreamError | undefined): void => {
      timer.cancel()
      link?.close()
      resolve(refusal)
    }
    let link: ReturnType<Net['connect']> | undefined
    try {
      link = net.connect(endpoint, {
        onOpen: () => end(undefined),
        onMessage: () => undefined,
        onClose: (reason) => end(isStreamError(reason, 'NOT_ALLOWED') ? reason : undefined),
      })
    } catch {
      // An address that makes no sense is told by who uses it.
      end(undefined)
    }
  })
}
