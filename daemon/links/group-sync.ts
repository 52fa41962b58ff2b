/** stub */
import type { GroupCoordinator } from '../coordinator/group-coordinator.ts'
import type { Broker } from '../replica/broker.ts'
import type { LinkRun } from './link-run.ts'
export class GroupSync {
  constructor(_broker: Broker, _groups: GroupCoordinator, _runs: ReadonlyMap<string, LinkRun>) {}
  start(): void {}
  stop(): void {}
}
