/**
 * install.sh as a user runs it, from a copy of this checkout into a home of its own: install, upgrade over it, uninstall;
 * the data stay. The copy has the packages already, so that nothing is fetched.
 */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hasProgram, repository } from '../support/program.ts'

let scratch: string
let checkout: string
let home: string

beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'st-inst-'))
  checkout = join(scratch, 'checkout')
  home = join(scratch, 'home')
  const left = new Set(['.git', 'dist', 'node_modules'])
  cpSync(repository, checkout, {
    recursive: true,
    filter: (source) => !left.has(basename(source)) || source === repository,
  })
  // Links where the file system allows: the packages are many.
  const packages = [join(repository, 'node_modules'), join(checkout, 'node_modules')]
  const linked = spawnSync('cp', ['-al', ...packages], { stdio: 'ignore' })
  if (linked.status !== 0) cpSync(packages[0] ?? '', packages[1] ?? '', { recursive: true })
  mkdirSync(join(home, 'run'), { recursive: true })
  chmodSync(join(home, 'run'), 0o700)
  mkdirSync(join(scratch, 'bin'))
  // Fetching packages is npm's part, and tested by every real installation.
  writeFileSync(join(scratch, 'bin/npm'), '#!/bin/sh\nexit 0\n')
  chmodSync(join(scratch, 'bin/npm'), 0o755)
})
afterAll(() => {
  shell('stream daemon stop 2>/dev/null')
  rmSync(scratch, { recursive: true, force: true })
})

function environment(): NodeJS.ProcessEnv {
  return {
    PATH: `${join(home, '.local/bin')}:${join(scratch, 'bin')}:${process.env['PATH'] ?? ''}`,
    HOME: home,
    XDG_DATA_HOME: join(home, '.local/share'),
    XDG_STATE_HOME: join(home, 'state'),
    XDG_CONFIG_HOME: join(home, 'config'),
    XDG_RUNTIME_DIR: join(home, 'run'),
    LC_ALL: 'C.UTF-8',
  }
}

function shell(line: string): SpawnSyncReturns<string> {
  return spawnSync('bash', ['-c', line], {
    cwd: scratch,
    env: environment(),
    encoding: 'utf8',
    timeout: 120_000,
  })
}

function install(...words: string[]): SpawnSyncReturns<string> {
  return shell(`'${checkout}/install.sh' ${words.join(' ')} 2>&1`)
}

const filesUnder = (directory: string): string[] =>
  existsSync(directory)
    ? readdirSync(directory, { recursive: true, withFileTypes: true }).flatMap((entry) =>
        entry.isDirectory() ? [] : join(entry.parentPath, entry.name),
      )
    : []

describe('install.sh', { timeout: 180_000 }, () => {
  it('installs the program, its manual, completions and unit, and proves it', () => {
    const { status, stdout } = install()
    expect(status, stdout).toBe(0)
    expect(stdout).toContain('\n1000\n')
    expect(shell('stream --version').stdout).toMatch(/^stream \d/)
    const share = join(home, '.local/share')
    for (const path of [
      'man/man1/stream-produce.1',
      'man/man1/stream-topics-apply.1',
      'man/man7/stream-formats.7',
      'bash-completion/completions/stream',
      'zsh/site-functions/_stream',
      'fish/vendor_completions.d/stream.fish',
    ]) {
      expect(existsSync(join(share, path)), path).toBe(true)
    }
    if (process.platform === 'linux') {
      const unit = readFileSync(join(share, 'systemd/user/stream.service'), 'utf8')
      expect(unit).toContain(`ExecStart=${home}/.local/bin/stream daemon run`)
      expect(unit).not.toContain('@')
    }
    // The installed program needs nothing of the checkout.
    expect(
      shell(
        `mv '${checkout}' moved; seq 5 | stream produce kept; status=$?; mv moved '${checkout}'; exit $status`,
      ).status,
    ).toBe(0)
  })

  it.skipIf(!hasProgram('man'))('man finds the pages', () => {
    const found = shell('MANPATH=$HOME/.local/share/man man -w stream-topics-create')
    expect(found.stdout.trim()).toBe(join(home, '.local/share/man/man1/stream-topics-create.1'))
  })

  it('bash completes commands, flags, and topics live', () => {
    const complete = (...words: string[]): string[] =>
      shell(
        [
          '. "$HOME/.local/share/bash-completion/completions/stream"',
          `COMP_WORDS=(stream ${words.map((word) => `'${word}'`).join(' ')})`,
          `COMP_CWORD=${words.length}`,
          '_stream',
          'printf "%s\\n" "${COMPREPLY[@]}"',
        ].join('\n'),
      )
        .stdout.trim()
        .split('\n')
    expect(complete('topi')).toEqual(['topics'])
    expect(complete('topics', 'cr')).toEqual(['create'])
    expect(complete('topics', 'create', '--if')).toEqual(['--if-not-exists'])
    // What does not come within 200 ms does not come: on a busy machine the first tries may be too slow.
    let live: string[] = []
    for (let attempt = 0; attempt < 10 && live[0] !== 'kept'; attempt++)
      live = complete('cat', 'ke')
    expect(live).toEqual(['kept'])
    shell('stream daemon stop')
    expect(complete('cat', 'ke')).toEqual([''])
    expect(shell('stream daemon status').status).toBe(4)
  })

  it('upgrades over itself, takes away what is gone, and keeps the data', () => {
    const stale = join(home, '.local/share/man/man1/stream-gone.1')
    writeFileSync(stale, '')
    const list = join(home, '.local/lib/stream/INSTALLED')
    writeFileSync(list, `${readFileSync(list, 'utf8')}${stale}\n`)
    const { status, stdout } = install()
    expect(status, stdout).toBe(0)
    expect(existsSync(stale)).toBe(false)
    expect(shell('stream cat kept | wc -l').stdout.trim()).toBe('5')
    expect(filesUnder(join(home, '.local/lib')).some((path) => /\.(new|old)\//.test(path))).toBe(
      false,
    )
  })

  it('uninstalls everything but the data, and stops the daemon first', () => {
    expect(shell('stream daemon start; stream daemon status').status).toBe(0)
    const { status, stdout } = install('--uninstall')
    expect(status, stdout).toBe(0)
    expect(stdout).toContain('stopping the running daemon')
    expect(stdout).toContain('data is kept')
    const rest = filesUnder(join(home, '.local'))
    expect(rest.length).toBeGreaterThan(0)
    for (const path of rest) expect(path).toContain('/.local/share/stream/')
    expect(rest.some((path) => path.includes('kept-0'))).toBe(true)
    expect(install('--uninstall').status).toBe(3)
  })

  it('goes to another prefix, and refuses what it does not know', () => {
    expect(install('--prefix').status).toBe(2)
    expect(install('--nonsense').status).toBe(2)
    const { status, stdout } = install('--prefix', './pre')
    expect(status, stdout).toBe(0)
    const prefix = join(scratch, 'pre')
    expect(shell('pre/bin/stream cat kept | wc -l; pre/bin/stream daemon stop').stdout.trim()).toBe(
      '5',
    )
    if (process.platform === 'linux') {
      expect(existsSync(join(prefix, 'lib/systemd/system/stream.service'))).toBe(true)
    }
    expect(install('--prefix', './pre', '--uninstall').status).toBe(0)
    expect(filesUnder(prefix)).toEqual([])
  })
})
