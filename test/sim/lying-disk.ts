/** A disk whose files lie about some calls: a bug put in on purpose. */
import type { Disk, DiskFile } from '../../src/ports/disk.ts'

/** @param lie  what a file does in the place of its own calls */
export function lyingDisk(lie: (file: DiskFile) => Partial<DiskFile>): (disk: Disk) => Disk {
  return (disk) =>
    new Proxy(disk, {
      get(target, name) {
        const member = Reflect.get(target, name)
        if (name === 'open') {
          return (path: string, mode: 'read' | 'write') => {
            const file = disk.open(path, mode)
            const lies = lie(file)
            return new Proxy(file, {
              get(inner, key) {
                const own = Reflect.get(lies, key) ?? Reflect.get(inner, key)
                return typeof own === 'function' ? own.bind(key in lies ? lies : inner) : own
              },
            })
          }
        }
        return typeof member === 'function' ? member.bind(target) : member
      },
    })
}
