/** The limit: the same bytes through the same pipes, by `cat`. */
import { join } from 'node:path'
import { run } from '../harness.ts'
import type { Contender, Peer, Stage } from './contender.ts'
import { timeLine } from './race.ts'

export class Limit implements Peer {
  readonly title = 'cat'
  #stage: Stage | undefined

  async start(stage: Stage): Promise<void> {
    this.#stage = stage
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
  latency: Peer['latency'] = () => []
  startUp: Peer['startUp'] = () => []
  memory: Peer['memory'] = () => []
  servers: Peer['servers'] = () => []
  async stop(): Promise<void> {}

  private get stage(): Stage {
    if (this.#stage === undefined) throw new Error('start comes first')
    return this.#stage
  }
}
