/**
 * What a person sees: the built program in tmux, with real keys and real window sizes. Skipped, with a word, where
 * there is no tmux.
 */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually, hasProgram, Program } from '../support/program.ts'

const hasTmux = hasProgram('tmux')
if (!hasTmux) process.stderr.write('terminal tests are skipped: there is no tmux\n')

class Terminal {
  readonly #program: Program
  readonly #socket: string

  constructor(program: Program, columns: number) {
    this.#program = program
    this.#socket = program.path(`tmux-${columns}`)
    this.#tmux(
      '-f',
      '/dev/null',
      'new-session',
      '-d',
      '-x',
      String(columns),
      '-y',
      '50',
      'bash --norc --noprofile',
    )
    this.type('PS1="> "; clear')
    this.key('Enter')
  }

  type(text: string): void {
    this.#tmux('send-keys', '-l', text)
  }

  key(name: string): void {
    this.#tmux('send-keys', name)
  }

  /** The screen without the blank lines at its end; `-e` shows colours as escapes. */
  screen(...flags: string[]): string {
    return this.#tmux('capture-pane', '-p', ...flags).trimEnd()
  }

  /** Types a line, and waits for the screen to hold what is expected. */
  async run(line: string, expected: string | RegExp, ...flags: string[]): Promise<string> {
    this.type('clear')
    this.key('Enter')
    this.type(line)
    this.key('Enter')
    return this.sees(expected, ...flags)
  }

  sees(expected: string | RegExp, ...flags: string[]): Promise<string> {
    return eventually(`the screen shows ${expected}; it shows: ${this.screen()}`, () => {
      const screen = this.screen(...flags)
      const isThere =
        typeof expected === 'string' ? screen.includes(expected) : expected.test(screen)
      return isThere ? screen : undefined
    })
  }

  close(): void {
    this.#tmux('kill-server')
  }

  #tmux(...args: string[]): string {
    const { stdout } = spawnSync('tmux', ['-S', this.#socket, ...args], {
      env: { ...this.#program.environment, TERM: 'xterm-256color' },
      cwd: this.#program.directory,
      encoding: 'utf8',
    })
    return stdout
  }
}

describe.skipIf(!hasTmux)('on a terminal', () => {
  let program: Program
  let wide: Terminal
  let narrow: Terminal
  beforeAll(() => {
    program = new Program()
    program.ok('stream topics create a.topic.with.a.rather.long.name.for.a.screen --partitions 12')
    program.ok('seq 5 | stream produce short; stream topics create extra')
    wide = new Terminal(program, 80)
    narrow = new Terminal(program, 40)
  })
  afterAll(() => {
    wide?.close()
    narrow?.close()
    program?.stop()
  })

  it('tables fit 80 and 40 columns: no line wraps', async () => {
    for (const terminal of [wide, narrow]) {
      const list = await terminal.run('stream topics list; echo done', /^done$/m)
      expect(list).toMatch(/^NAME +PART/m)
      // Four lines of table: titles, three topics.
      const lines = list.split('\n')
      expect(lines.indexOf('done') - lines.findIndex((line) => line.startsWith('NAME'))).toBe(4)
      const describe = await terminal.run(
        "stream topics describe 'a.*' | cat; stream topics describe 'a.*'; echo done",
        /^done$/m,
      )
      const shown = describe.split('\n')
      expect(shown.indexOf('done') - shown.findIndex((line) => line.startsWith('TOPIC'))).toBe(13)
    }
  })

  it('titles stand out, unless NO_COLOR, TERM=dumb or --color never says no', async () => {
    expect(await wide.run('stream topics list', /short/, '-e')).toContain('\x1b[1mNAME')
    for (const line of [
      'NO_COLOR=1 stream topics list',
      'TERM=dumb stream topics list',
      'stream topics list --color never',
    ]) {
      const screen = await wide.run(`${line}; echo done`, /^done$/m, '-e')
      expect(screen, line).toMatch(/^NAME/m)
      expect(screen, line).not.toContain('\x1b[1m')
    }
  })

  it('a prompt: no is the default, yes agrees, Ctrl-C dies by SIGINT, no terminal is refused', async () => {
    await wide.run('stream topics delete extra; echo "exit $?"', '[y/N]')
    wide.key('Enter')
    expect(await wide.sees('exit 1')).toContain('nothing deleted')
    await wide.run('stream topics delete extra; echo "exit $?"', '[y/N]')
    wide.key('C-c')
    await eventually('the prompt is gone', () => (/> $|>$/.test(wide.screen()) ? true : undefined))
    wide.type('echo "exit $?"')
    wide.key('Enter')
    await wide.sees(/^exit 130$/m)
    const refused = await wide.run(
      'stream topics delete extra < /dev/null; echo "exit $?"',
      'exit 2',
    )
    expect(refused).toContain('nobody can be asked here')
    expect(program.ok('stream topics list extra | cut -f1')).toBe('extra\n')
    await wide.run('stream topics delete extra; echo "exit $?"', '[y/N]')
    wide.type('y')
    wide.key('Enter')
    await wide.sees('exit 0')
    expect(program.shell('stream topics list extra').status).toBe(3)
  })

  it('a plan is shown before it is asked about, and a glob asks for the number', async () => {
    program.ok('stream topics create x.1 x.2; seq 9 | stream produce x.1')
    const trim = await wide.run('stream topics trim x.1 --keep 2; echo "exit $?"', '[y/N]')
    expect(trim).toMatch(/TOPIC +PARTITION +OLD +NEW\nx\.1 +0 +0 +7\n/)
    wide.type('n')
    wide.key('Enter')
    await wide.sees('exit 1')
    const glob = await wide.run('stream topics delete \'x.*\'; echo "exit $?"', '[2/N]')
    expect(glob).toMatch(/x\.1\nx\.2\n/)
    wide.type('y')
    wide.key('Enter')
    await wide.sees('exit 1')
  })

  it('control bytes in records are shown, not obeyed; with --raw they are obeyed', async () => {
    writeFileSync(program.path('hostile'), 'a\x1b[31mred\x1b]0;title\x07\x08\x1b[2Jend\n')
    program.ok('stream produce hostile < hostile')
    const screen = await wide.run('stream cat hostile; echo done', /^done$/m, '-e')
    expect(screen).toContain(String.raw`a\x1b[31mred\x1b]0;title\x07\x08\x1b[2Jend`)
    expect(screen).not.toContain('\x1b[31m')
    expect(
      await wide.run('stream cat short --raw; stream cat hostile --raw; echo done', /^done$/m),
    ).not.toContain('\\x1b')
  })

  it('a long run draws its progress with percent and time left, and takes it away', async () => {
    const line = 'stream bench produce --records 30000 --rate 10000/s; echo done'
    const drawn = await wide.run(line, /\d+% +\d+s left/)
    expect(drawn).toMatch(/produce +\d+ records/)
    const end = await wide.sees(/^done$/m)
    expect(end).not.toMatch(/left/)
    expect(end).toMatch(/^produce +30000/m)
  })

  it('a bounded read draws percent and time left too, by what it has passed', async () => {
    program.ok('for i in $(seq 20); do seq 200 | stream produce counted; done')
    const line = 'stream cat counted --rate 600/s > /dev/null; echo done'
    expect(await wide.run(line, /\d+% +\d+s left/)).toMatch(/[1-9]\d* records.* [1-9]\d*%/)
    expect(await wide.sees(/^done$/m)).not.toMatch(/left/)
  })

  it('top draws a screen that fits the window, and q ends it', async () => {
    program.ok('seq 4000 | stream produce numbers')
    const screen = await wide.run('clear; stream top --every 200ms; echo "ended $?"', /q ends/)
    expect(screen).toMatch(/\d+ topics, \d+ groups, 1 brokers/)
    expect(screen).toMatch(/^numbers +1 +(-|0) +\d+ /m)
    wide.type('q')
    await wide.sees(/^ended 0$/m)
  })

  it('SIGUSR1 prints the progress at once, also without a terminal', async () => {
    const child = program.start(program.stream, [
      'bench',
      'produce',
      '--records',
      '20000',
      '--rate',
      '5000/s',
    ])
    let said = ''
    child.stderr?.on('data', (chunk) => {
      said += chunk
    })
    await eventually('records', () =>
      /stream-bench-\w+\t1\t1\t[1-9]/.test(program.ok('stream topics list')) ? true : undefined,
    )
    await eventually('a line of progress', () => {
      child.kill('SIGUSR1')
      return /produce {2}\d+ records.*%/.test(said) ? true : undefined
    })
    child.kill('SIGINT')
    await eventually('its end', () => (child.signalCode === 'SIGINT' ? true : undefined))
    expect(program.ok('stream topics list | grep -c stream-bench || true').trim()).toBe('0')
  })

  it('a usage error is marked in the line that was typed', async () => {
    const screen = await wide.run('stream produce t --compres zstd', '^^^')
    expect(screen).toContain('  stream produce t --compres zstd\n                   ^^^^^^^^^')
  })

  it('help fits the window', async () => {
    for (const [terminal, columns] of [
      [wide, 80],
      [narrow, 40],
    ] as const) {
      terminal.type('clear')
      terminal.key('Enter')
      const text = await terminal.run(
        'stream topics wait --help > help; tail -n 5 help; echo done',
        /^done$/m,
      )
      expect(text.split('\n').every((line) => line.length <= columns)).toBe(true)
      const direct = await terminal.run('stream explain exit 5; echo done', /^done$/m)
      expect(direct).toContain('Meaning')
    }
  })
})

describe('completion in time', () => {
  let program: Program
  beforeAll(() => {
    program = new Program()
  })
  afterAll(() => program?.stop())

  it('is done soon where a broker takes the connection and says nothing', async () => {
    const server = program.start('node', [
      '-e',
      "require('node:net').createServer(() => {}).listen(0, '127.0.0.1', function () { console.log(this.address().port) })",
    ])
    let port = ''
    server.stdout?.on('data', (chunk) => {
      port += chunk
    })
    await eventually('a port', () => (port.endsWith('\n') ? true : undefined))
    for (const scheme of ['kafka', 'tcp']) {
      const startMs = performance.now()
      const outcome = program.shell(
        `stream completion words -- cat -b ${scheme}://127.0.0.1:${port.trim()} ''`,
      )
      const elapsedMs = performance.now() - startMs
      expect(outcome).toMatchObject({ status: 0, stdout: '', stderr: '' })
      // 200 ms on an idle machine; tests share theirs.
      expect(elapsedMs).toBeLessThan(1000)
    }
    expect(program.shell('stream daemon status').status).toBe(4)
    server.kill('SIGKILL')
  })
})
