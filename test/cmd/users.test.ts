import { describe, expect, it } from 'vitest'
import { World } from './fake-world.ts'

const SECRET = 's3cret'

function world(input: string = `${SECRET}\n`): World {
  const w = new World()
  w.input = [input]
  return w
}

describe('users set', () => {
  it('takes the password from standard input or a file, without its newline', async () => {
    const w = world()
    w.files.set('/here/etl.pw', Buffer.from('of a file\r\n'))
    const set = await w.run('users', 'set', 'etl')
    expect(set).toMatchObject({ exit: 0 })
    expect(set.stdout).toBe('etl\tSCRAM-SHA-256\t8192\netl\tSCRAM-SHA-512\t8192\n')
    expect(w.clients.users.get('etl')?.password).toBe(SECRET)
    w.files.set('etl.pw', Buffer.from('of a file\r\n'))
    await w.run('users', 'set', 'two', '--password-file', 'etl.pw', '--mechanism', 'scram-sha-512')
    expect(w.clients.users.get('two')).toEqual({
      password: 'of a file',
      mechanisms: ['SCRAM-SHA-512'],
    })
  })

  it('says that the former password still counts with another mechanism', async () => {
    const w = world('former\n')
    expect((await w.run('users', 'set', 'etl')).exit).toBe(0)
    w.input = ['new\n']
    const changed = await w.run('users', 'set', 'etl', '--mechanism', 'SCRAM-SHA-512')
    expect(changed.exit).toBe(0)
    expect(changed.stderr).toBe(
      'stream: users set: etl: with SCRAM-SHA-256 and PLAIN the former password counts as before; to end that: stream users delete etl --mechanism SCRAM-SHA-256\n',
    )
    const only = await world().run('users', 'set', 'fresh', '--mechanism', 'SCRAM-SHA-512')
    expect(only.stderr).toBe('')
  })

  it('asks twice at a terminal, corrections included', async () => {
    const w = world()
    w.terminals = ['input', 'error']
    w.input = ['wrong\x15p\xc3\xa4x\x7f\x7fw\r']
    const { exit, stderr } = await w.run('users', 'set', 'etl')
    expect(stderr).toContain('new password of etl: \nonce more: \n')
    expect(exit).toBe(0)
    expect(w.clients.users.get('etl')?.password).toBe('pw')
    const refused = await w.run('users', 'set', 'etl', '--no-input')
    expect(refused.exit).toBe(2)
    expect(refused.stderr).toContain('nobody can be asked')
  })

  it.each([
    ['', 'an empty password is none'],
    ['\n', 'an empty password is none'],
    ['two\nlines', 'one line'],
    ['x'.repeat(2000), 'at most 1024 bytes'],
    ['\xff\xfe', 'UTF-8'],
  ])('refuses what is no password: %j', async (input, why) => {
    const w = world(input)
    const { exit, stderr } = await w.run('users', 'set', 'etl')
    expect(exit).toBe(2)
    expect(stderr).toContain(why)
    expect(w.clients.users.size).toBe(0)
  })

  it('a password as an argument is refused and not repeated', async () => {
    const { exit, stdout, stderr } = await world().run('users', 'set', 'etl', SECRET)
    expect(exit).toBe(2)
    expect(stdout + stderr).not.toContain(SECRET)
  })

  it('sends nothing that proves a password over a network in clear text', async () => {
    const w = world()
    const refused = await w.run('users', 'set', 'etl', '-b', 'kafka://far')
    expect(refused.exit).toBe(2)
    expect(refused.stderr).toContain('in clear text')
    expect((await w.run('users', 'set', 'etl', '-b', 'kafka://127.0.0.1')).exit).toBe(0)
    const tls = ['-b', 'kafka://far', '-X', 'security.protocol=SSL']
    expect((await world().run('users', 'set', 'etl', ...tls)).exit).toBe(0)
  })

  it('bad mechanisms and iterations', async () => {
    for (const words of [
      ['--mechanism', 'PLAIN'],
      ['--mechanism', ','],
      ['--iterations', '10'],
      ['--iterations', '20000'],
    ])
      expect((await world().run('users', 'set', 'etl', ...words)).exit).toBe(2)
  })
})

describe('users list, users delete', () => {
  async function withUsers(): Promise<World> {
    const w = world()
    w.clients.users.set('a', { password: SECRET, mechanisms: ['SCRAM-SHA-256', 'SCRAM-SHA-512'] })
    w.clients.users.set('b', { password: SECRET, mechanisms: ['SCRAM-SHA-512'] })
    return w
  }

  it('lists without passwords', async () => {
    const w = await withUsers()
    const { stdout, exit } = await w.run('users', 'list')
    expect(exit).toBe(0)
    expect(stdout).toBe('a\tSCRAM-SHA-256\t8192\na\tSCRAM-SHA-512\t8192\nb\tSCRAM-SHA-512\t8192\n')
    const unknown = await world().run('users', 'list', 'c')
    expect(unknown.exit).toBe(3)
    expect((await world().run('users', 'list', '--fail-empty')).exit).toBe(3)
  })

  it('deletes what was agreed to', async () => {
    const w = await withUsers()
    expect((await w.run('users', 'delete', 'a')).exit).toBe(2)
    expect((await w.run('users', 'delete', 'a', '--dry-run')).exit).toBe(0)
    expect(w.clients.users.has('a')).toBe(true)
    await w.run('users', 'delete', 'a', '--mechanism', 'SCRAM-SHA-256', '-y')
    expect(w.clients.users.get('a')?.mechanisms).toEqual(['SCRAM-SHA-512'])
    expect((await w.run('users', 'delete', 'a', 'b', '-y')).exit).toBe(0)
    expect(w.clients.users.size).toBe(0)
    const unknown = await w.run('users', 'delete', 'a', '-y')
    expect(unknown.exit).toBe(3)
    expect(unknown.stderr).toContain('a: no such user')
  })
})
