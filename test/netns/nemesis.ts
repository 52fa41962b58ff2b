/**
 * Brings a plan of faults over a cluster, and takes all of it back. A fault whose target is under another one of its sort is left
 * out: a disk fails in one way at a time, and what is down cannot be killed.
 */

import { describeFault, type Fault, type FaultKind, type Place } from './faults.ts'
import type { DaemonHost, HostsCluster } from './hosts-cluster.ts'
import type { Host } from './namespaces.ts'
import { run } from './namespaces.ts'

export class Nemesis {
  readonly applied = new Map<FaultKind, number>()
  readonly #cluster: HostsCluster
  readonly #say: (text: string) => void
  /** Daemons whose process or disk is in the hands of a fault. */
  readonly #busy = new Set<number>()
  readonly #undone = new Set<Promise<void>>()
  #etcdIsBusy = false
  #isCalm = false
  #wake: () => void = () => undefined

  constructor(cluster: HostsCluster, say: (text: string) => void) {
    this.#cluster = cluster
    this.#say = say
  }

  /** Resolves when the plan is through and every fault is undone. */
  async play(faults: readonly Fault[], lengthMs: number): Promise<void> {
    const startMs = performance.now()
    for (const fault of faults) {
      await this.#pause(startMs + fault.atMs - performance.now())
      if (this.#isCalm) break
      this.#strike(fault)
    }
    await this.#pause(startMs + lengthMs - performance.now())
    await this.calm()
  }

  /** Undoes everything: no cut, all processes running, all disks well. */
  async calm(): Promise<void> {
    this.#isCalm = true
    this.#wake()
    await Promise.all(this.#undone)
    this.#cluster.network.heal()
    await this.#cluster.startEtcd()
    for (const daemon of this.#cluster.daemons) {
      this.#cluster.signal(daemon, 'SIGCONT')
      this.#cluster.run(daemon)
    }
  }

  #strike(fault: Fault): void {
    const daemons = fault.daemons.map((nodeId) => this.#cluster.daemon(nodeId))
    const holdsDaemons = fault.cuts.length === 0
    const holdsEtcd = fault.kind.endsWith('etcd') || fault.variant === 'with-etcd'
    if (holdsDaemons && fault.daemons.some((nodeId) => this.#busy.has(nodeId))) return
    if (holdsEtcd && this.#etcdIsBusy) return
    if (holdsDaemons) for (const nodeId of fault.daemons) this.#busy.add(nodeId)
    if (holdsEtcd) this.#etcdIsBusy = true
    this.applied.set(fault.kind, (this.applied.get(fault.kind) ?? 0) + 1)
    this.#say(describeFault(fault))
    const work = this.#bring(fault, daemons)
      .catch((error: unknown) => this.#say(`${fault.kind} went wrong: ${String(error)}`))
      .finally(() => {
        if (holdsDaemons) for (const nodeId of fault.daemons) this.#busy.delete(nodeId)
        if (holdsEtcd) this.#etcdIsBusy = false
        this.#undone.delete(work)
      })
    this.#undone.add(work)
  }

  async #bring(fault: Fault, daemons: readonly DaemonHost[]): Promise<void> {
    const cluster = this.#cluster
    const [daemon] = daemons
    switch (fault.kind) {
      case 'cut':
      case 'one-way':
      case 'isolate': {
        const undo = fault.cuts.map(([from, to]) =>
          cluster.network.cut(this.#host(from), this.#host(to)),
        )
        await this.#pause(fault.lastsMs)
        for (const heal of undo) heal()
        return
      }
      case 'pause':
        if (daemon === undefined) return
        cluster.signal(daemon, 'SIGSTOP')
        await this.#pause(fault.lastsMs)
        cluster.signal(daemon, 'SIGCONT')
        return
      case 'pause-etcd':
        cluster.signalEtcd('SIGSTOP')
        await this.#pause(fault.lastsMs)
        cluster.signalEtcd('SIGCONT')
        return
      case 'kill':
      case 'kill-all':
      case 'stop':
        await Promise.all(
          daemons.map((each) => cluster.end(each, fault.kind === 'stop' ? 'SIGTERM' : 'SIGKILL')),
        )
        await this.#pause(fault.lastsMs)
        for (const each of daemons) cluster.run(each)
        return
      case 'kill-etcd':
        await cluster.killEtcd()
        await this.#pause(fault.lastsMs)
        await cluster.startEtcd()
        return
      case 'full':
        daemon?.disk.fill()
        await this.#pause(fault.lastsMs)
        daemon?.disk.free()
        return
      case 'sync':
        if (daemon !== undefined) await this.#failSyncs(daemon, fault)
        return
      case 'power':
        await cluster.cutPower(daemons, fault.variant === 'with-etcd')
        await this.#pause(fault.lastsMs)
        if (fault.variant === 'with-etcd') await cluster.startEtcd()
        for (const each of daemons) cluster.run(each)
    }
  }

  /** Then comes somebody who ends the daemon, mends the disk and starts it again. */
  async #failSyncs(daemon: DaemonHost, { variant, lastsMs }: Fault): Promise<void> {
    const { disk } = daemon
    // It may end by itself; who starts it again while the disk is as it is would only see it end again.
    if (variant === 'device') disk.failSyncs()
    else disk.cutPower()
    await this.#pause(lastsMs)
    await this.#cluster.end(daemon, 'SIGKILL')
    disk.mendSyncs()
    disk.unmount()
    run(['e2fsck', '-p', disk.image])
    disk.mount()
    this.#cluster.run(daemon)
  }

  #host(place: Place): Host {
    if (place === 'etcd') return this.#cluster.etcdHost
    if (place === 'clients') return this.#cluster.clients
    return this.#cluster.daemon(place).host
  }

  /** Until the time has passed, or calm is wanted. */
  #pause(delayMs: number): Promise<void> {
    if (this.#isCalm || delayMs <= 0) return Promise.resolve()
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, delayMs)
      const before = this.#wake
      this.#wake = () => {
        clearTimeout(timer)
        before()
        resolve()
      }
    })
  }
}
