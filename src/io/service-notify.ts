/**
 * Tells systemd when the daemon is ready and when it begins to stop (`Type=notify`, sd_notify(3)).
 *
 * Node has no datagram sockets of the UNIX kind, so the message goes through systemd's own tool, which is there wherever
 * such a unit runs. The unit needs `NotifyAccess=all`, since the tool is a child of the daemon.
 */
import type { Log } from '../ports/log.ts'
import { childProcessModule } from './lazy-modules.ts'

export type ServiceState = 'ready' | 'stopping'

const words: Readonly<Record<ServiceState, string>> = { ready: 'READY=1', stopping: 'STOPPING=1' }

/** Returns at once; does nothing where no service manager asked for it. A failure is logged: systemd will act on it. */
export function notifyServiceManager(
  environment: Readonly<Record<string, string | undefined>>,
  log: Log,
  state: ServiceState,
  status: string,
): void {
  const socket = environment['NOTIFY_SOCKET']
  if (socket === undefined || socket === '') return
  const child = childProcessModule().spawn('systemd-notify', [words[state], `STATUS=${status}`], {
    stdio: 'ignore',
    env: { ...environment },
  })
  const complain = (why: string): void =>
    log.warn('systemd was not told; without systemd-notify use Type=exec in the unit', {
      state,
      why,
    })
  child.once('error', (error) => complain(error.message))
  child.once('exit', (code, signal) => {
    if (code !== 0) complain(signal ?? `systemd-notify ended with ${code}`)
  })
  child.unref()
}
