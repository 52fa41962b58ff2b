/**
 * Real crashes of the real program: kill -9 of the daemon under load, and power cuts by copying the image of a mounted
 * ext4 file system at one point in time. What was acknowledged must be there, once and in order.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { daemonBundle, ended, eventually, hasProgram, Program } from '../support/program.ts'

const rounds = Number(process.env['STREAM_CRASH_ROUNDS'] ?? 8)

describe('kill -9 of the daemon under load', () => {
  it('every line arrives once and in order, whatever is killed when', async () => {
    const program = new Program()
    try {
      program.ok('stream daemon start')
      const lines = 400_000
      program.ok(`seq ${lines} > input`)
      // A trickle with pauses keeps the producer busy over many kills.
      const producer = program.start('bash', [
        '-c',
        `split -l 20000 --filter='cat; sleep 0.15' input | stream produce killed --linger 1ms -z none --report report`,
      ])
      producer.stdin?.end()
      let errors = ''
      producer.stderr?.on('data', (chunk: Buffer) => {
        errors += chunk.toString()
      })
      let over = false
      const status = ended(producer).then((code) => {
        over = true
        return code
      })
      let kills = 0
      while (!over && kills < rounds) {
        await new Promise((resolve) => setTimeout(resolve, 100 + Math.random() * 400))
        const shown = program.shell('stream daemon status --json')
        if (shown.status === 0) {
          process.kill((JSON.parse(shown.stdout) as { pid: number }).pid, 'SIGKILL')
          kills++
        }
        program.ok('stream daemon start')
      }
      expect(await status, errors).toBe(0)
      expect(kills).toBeGreaterThan(2)
      expect(program.shell('stream cat killed | cmp - input').status).toBe(0)
    } finally {
      program.stop()
    }
  }, 120_000)
})

const mayMount =
  process.getuid?.() === 0 &&
  existsSync('/dev/loop-control') &&
  hasProgram('mkfs.ext4') &&
  hasProgram('fsfreeze')

describe.runIf(mayMount)('power cuts (loop devices; needs root, else left out)', () => {
  const must = (command: string, args: string[]) => {
    const result = spawnSync(command, args)
    if (result.status !== 0)
      throw new Error(`${command} ${args.join(' ')}: ${result.stderr.toString()}`)
  }

  it('every acknowledged line is there after the cut, in order and once, and nothing follows a hole', async () => {
    const program = new Program()
    const outer = program.path('outer')
    const inner = program.path('inner')
    const after = program.path('after')
    for (const directory of [outer, inner, after]) mkdirSync(directory)
    try {
      must('sh', [
        '-c',
        `truncate -s 300M ${program.path('outer.img')} && mkfs.ext4 -q ${program.path('outer.img')}`,
      ])
      must('mount', ['-o', 'loop', program.path('outer.img'), outer])
      must('sh', [
        '-c',
        `truncate -s 96M ${join(outer, 'inner.img')} && mkfs.ext4 -q ${join(outer, 'inner.img')}`,
      ])
      must('mount', ['-o', 'loop', join(outer, 'inner.img'), inner])
      const socket = `ipc://${program.path('run', 'cut.sock')}`
      const daemon = program.start(process.execPath, [
        daemonBundle,
        '--data',
        join(inner, 'data'),
        '--listen',
        socket,
        '-X',
        'log.dir.reserve.bytes=0',
      ])
      await eventually(
        'the daemon answers',
        () => program.shell(`stream topics list -b ${socket}`).status === 0,
      )
      program.ok(`stream topics create cut -b ${socket}`)
      const producer = program.start('bash', [
        '-c',
        `n=0; while :; do n=$((n+1)); echo "line $n"; [ $((n % 50)) = 0 ] && sleep 0.002; done | stream produce cut -b ${socket} --receipts receipts`,
      ])
      producer.stdin?.end()
      for (let cut = 0; cut < Math.min(rounds, 6); cut++) {
        await new Promise((resolve) => setTimeout(resolve, 200 + Math.random() * 500))
        // Receipts first: what they say by now was acknowledged before the cut.
        const receipts = readFileSync(program.path('receipts'), 'latin1').split('\n').slice(0, -1)
        must('fsfreeze', ['-f', outer])
        try {
          must('cp', ['--sparse=always', join(outer, 'inner.img'), program.path('cut.img')])
        } finally {
          must('fsfreeze', ['-u', outer])
        }
        must('mount', ['-o', 'loop', program.path('cut.img'), after])
        const address = `ipc://${program.path('run', `after${cut}.sock`)}`
        // A power cut changes the boot id; this one is simulated.
        const second = program.start(process.execPath, [
          daemonBundle,
          '--data',
          join(after, 'data'),
          '--listen',
          address,
          '-X',
          'log.dir.reserve.bytes=0',
          '-X',
          `stream.boot.id=cut-${cut}`,
        ])
        let said = ''
        second.stderr?.on('data', (chunk: Buffer) => {
          said += chunk.toString()
        })
        try {
          await eventually(
            `the daemon answers after the cut: ${said}`,
            () => program.shell(`stream topics list -b ${address}`).status === 0,
          )
          const found = program.ok(`stream cat cut -b ${address}`).split('\n').slice(0, -1)
          expect(receipts.length).toBeGreaterThan(0)
          expect(found.length).toBeGreaterThanOrEqual(receipts.length)
          for (let index = 0; index < found.length; index++) {
            if (found[index] !== `line ${index + 1}`)
              throw new Error(`record ${index} is ${found[index]}`)
          }
          program.ok(`echo more | stream produce cut -b ${address}`)
        } finally {
          second.kill('SIGKILL')
          await ended(second)
          must('umount', [after])
        }
      }
      producer.kill('SIGKILL')
      daemon.kill('SIGKILL')
      await ended(daemon)
    } finally {
      for (const directory of [after, inner, outer]) spawnSync('umount', ['-l', directory])
      program.stop()
    }
  }, 120_000)
})
