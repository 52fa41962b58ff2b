/**
 * The move into a cluster as a module of its own, with the real disk, the embedded home and etcd: `stream cluster adopt` loads it by
 * its path when it runs (cmd/main.ts).
 */
import { join } from 'node:path'
import { EmbeddedStore } from '../../src/io/embedded-store.ts'
import { etcdSettingsOf, readEtcdOptions } from '../../src/io/etcd-options.ts'
import { EtcdStore } from '../../src/io/etcd-store.ts'
import { RealDisk } from '../../src/io/real-disk.ts'
import { RealRandom } from '../../src/io/real-random.ts'
import { RealTime } from '../../src/io/real-time.ts'
import type { Adoption, AdoptionRequest } from '../../src/ports/adoption.ts'
import { silentLog } from '../../src/ports/log.ts'
import { adoptDirectory } from './adopt.ts'

export function openAdoption(): Adoption {
  const run = (request: AdoptionRequest, isDryRun: boolean) => {
    const { dataDirectory, cluster, etcd, etcdConfig } = request
    const options = readEtcdOptions(etcdSettingsOf(etcd, etcdConfig, process.env))
    const time = new RealTime()
    return adoptDirectory(
      {
        time,
        random: new RealRandom(),
        disk: new RealDisk(),
        openHome: () => EmbeddedStore.open(time, { directory: join(dataDirectory, 'metadata') }),
        openCluster: () => EtcdStore.open(time, silentLog, options),
      },
      { dataDirectory, cluster, isDryRun },
    )
  }
  return {
    look: async (request) => await run(request, true),
    adopt: async (request) => await run(request, false),
  }
}
