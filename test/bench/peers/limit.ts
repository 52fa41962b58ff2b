/** The limit: the same bytes through the same pipes, by `cat`, and line by line through a server that does nothing else. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { nodeBinary, repository, run } from '../harness.ts'
import type { Contender, LatencyContender, Peer, Stage } from './contender.ts'
import { timeLine } from './race.ts'

const script = (name: string): string => join(repository, 'test/bench/peers', name)
const START_MS_MAX = 10_000

export class Limit implements Peer {
  readonly title = 'cat'
  #stage: Stage | undefined
  #server: ChildProcess | undefined

  async start(stage: Stage): Promise<void> {
    this.#stage = stage
    const args = [script('bare-server.ts'), this.#socket, join(stage.scratch.directory, 'bare')]
    this.#server = spawn(nodeBinary, args, { stdio: 'ignore' })
    const deadline = performance.now() + START_MS_MAX
    while (!existsSync(this.#socket)) {
      if (performance.now() > deadline) throw new Error('the bare server did not come up')
      await pause(20)
    }
  }
  async load(): Promise<void> {}
  produce: Peer['produce'] = ({ whole }) => {
    const { scratch } = this.stage
    const copy = join(scratch.directory, 'copy')
    const contender: Contender = {
      name: '`cat f \\| cat > f2; sync -d f2`',
      durability: 'durable',
      flush: 'one fdatasync at the end',
      prepare: () => {
        run(`rm -f ${copy}; cat ${whole.path} > /dev/null`, scratch)
      },
      run: () => ({
        ms: timeLine(`cat ${whole.path} | cat > ${copy}; sync -d ${copy}`, scratch).ms,
        records: whole.records,
      }),
    }
    return [contender]
  }
  consume: Peer['consume'] = ({ whole }) => [
    {
      name: '`cat f \\| cat > /dev/null`',
      durability: 'durable',
      flush: '–',
      prepare: () => {
        run(`cat ${whole.path} > /dev/null`, this.stage.scratch)
      },
      run: () => ({
        ms: timeLine(`cat ${whole.path} | cat > /dev/null`, this.stage.scratch).ms,
        records: whole.records,
      }),
    },
  ]
  latency(): LatencyContender[] {
    return (['durable', 'relaxed'] as const).map((durability) => {
      const relay = (verb: string) => ({
        command: nodeBinary,
        args: [script('line-client.ts'), verb, this.#socket, durability],
      })
      return {
        name: 'pipes to a bare Node server that keeps no log',
        durability,
        flush: durability === 'durable' ? 'fdatasync of every line' : 'written, no flush',
        means: 'sockets',
        judged: false,
        producer: relay('relay-in'),
        consumer: relay('relay-out'),
      }
    })
  }
  startUp: Peer['startUp'] = () => []
  memory: Peer['memory'] = () => []
  servers: Peer['servers'] = () => []
  async stop(): Promise<void> {
    const server = this.#server
    if (server === undefined || server.exitCode !== null || server.signalCode !== null) return
    const ended = once(server, 'exit')
    server.kill('SIGTERM')
    await ended
  }

  get #socket(): string {
    return join(this.stage.scratch.directory, 'bare.sock')
  }

  private get stage(): Stage {
    if (this.#stage === undefined) throw new Error('start comes first')
    return this.#stage
  }
}
