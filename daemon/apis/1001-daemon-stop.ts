/** DaemonStop (1001), private: the daemon ends cleanly, after this answer has gone out. */

import type { Handler } from './handler.ts'

export const daemonStop: Handler<'DaemonStop'> = ({ broker, host }) => {
  broker.log.info('stop asked for by a client')
  broker.time.setTimer(0, () => host.requestStop())
  return { errorCode: 0 }
}
