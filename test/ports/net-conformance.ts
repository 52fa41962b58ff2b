/** What every Net must do, for each kind of address; run on the real transports and the simulated one. */
import { afterEach, describe, expect, it } from 'vitest'
import { isStreamError } from '../../src/base/errors.ts'
import type { Link, LinkEvents, Listener, ListenOptions, Net } from '../../src/ports/net.ts'

export interface NetHarness {
  readonly net: Net
  /** Where to listen: a fresh path, or port 0. */
  address(): string
  /** An address where nothing listens. */
  deadAddress(): string
  settle<T>(promise: Promise<T>): Promise<T>
  end?(): Promise<void>
}

export interface NetTraits {
  /** Whether a server can hang up on one client. */
  readonly closable: boolean
}

const limits: ListenOptions = { messageBytesMax: 8 * 1024 * 1024, linksMax: 10 }

export const textFrame = (value: string): Uint8Array => new TextEncoder().encode(value)

export function joined(frames: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(frames as Uint8Array[]))
}

const textOf = (frames: readonly Uint8Array[]): string => new TextDecoder().decode(joined(frames))

/** Collects what happens to a link, and lets tests wait for it. */
export class Ear implements LinkEvents {
  readonly messages: Uint8Array[] = []
  isOpen = false
  isClosed = false
  reason: Error | undefined
  drains = 0
  private waiting: { met: () => boolean; resolve: () => void }[] = []

  onOpen(): void {
    this.isOpen = true
    this.check()
  }

  onMessage(frames: readonly Uint8Array[]): void {
    expect(this.isClosed).toBe(false)
    this.messages.push(joined(frames))
    this.check()
  }

  onDrain(): void {
    this.drains += 1
    this.check()
  }

  onClose(reason: Error | undefined): void {
    expect(this.isClosed).toBe(false)
    this.isClosed = true
    this.reason = reason
    this.check()
  }

  until(met: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      this.waiting.push({ met, resolve })
      this.check()
    })
  }

  text(index: number): string {
    return textOf([this.messages[index]!])
  }

  private check(): void {
    const waiting = this.waiting
    this.waiting = []
    for (const wait of waiting) {
      if (wait.met()) wait.resolve()
      else this.waiting.push(wait)
    }
  }
}

export function describeNet(name: string, traits: NetTraits, make: () => NetHarness): void {
  describe(`Net: ${name}`, () => {
    const ends: (() => Promise<void>)[] = []

    afterEach(async () => {
      for (const end of ends.splice(0).reverse()) await end()
    })

    interface Side {
      readonly link: Link
      readonly ear: Ear
    }

    async function listening(
      options: Partial<ListenOptions> = {},
      answer?: (side: Side, frames: readonly Uint8Array[]) => void,
    ): Promise<{ harness: NetHarness; listener: Listener; sides: Side[]; client: () => Side }> {
      const harness = make()
      const sides: Side[] = []
      const listener = await harness.settle(
        harness.net.listen(harness.address(), { ...limits, ...options }, (link) => {
          const ear = new Ear()
          const side = { link, ear }
          sides.push(side)
          if (answer === undefined) return ear
          return {
            onMessage: (frames) => {
              ear.onMessage(frames)
              answer(side, frames)
            },
            onDrain: () => ear.onDrain(),
            onClose: (reason) => ear.onClose(reason),
          }
        }),
      )
      const clients: Side[] = []
      ends.push(async () => {
        for (const side of clients) side.link.close()
        await harness.settle(listener.close(100))
        await harness.end?.()
      })
      const client = (): Side => {
        const ear = new Ear()
        const side = { link: harness.net.connect(listener.address, ear), ear }
        clients.push(side)
        return side
      }
      return { harness, listener, sides, client }
    }

    const echo = (side: Side, frames: readonly Uint8Array[]): void => side.link.send(frames)

    it('a message comes whole, and its answer', async () => {
      const { harness, client, sides } = await listening({}, echo)
      const { link, ear } = client()
      link.send([textFrame('one '), textFrame('message')])
      await harness.settle(ear.until(() => ear.messages.length === 1))
      expect(ear.text(0)).toBe('one message')
      expect(ear.isOpen).toBe(true)
      expect(sides).toHaveLength(1)
      expect(sides[0]?.ear.text(0)).toBe('one message')
      expect(sides[0]?.link.closable).toBe(traits.closable)
      expect(sides[0]?.link.id).not.toBe(link.id)
    })

    it('messages sent before the link stands are delivered, all in order', async () => {
      const { harness, client } = await listening({}, echo)
      const { link, ear } = client()
      for (let index = 0; index < 500; index++) link.send([textFrame(`${index}`)])
      await harness.settle(ear.until(() => ear.messages.length === 500))
      expect(ear.messages.map((message) => textOf([message]))).toEqual(
        Array.from({ length: 500 }, (_, index) => `${index}`),
      )
    })

    it('carries all sizes, from one byte to megabytes, in both directions', async () => {
      const { harness, client } = await listening({}, echo)
      const { link, ear } = client()
      const sizes = [1, 2, 127, 128, 129, 8191, 8192, 65_535, 65_536, 65_537, 1_000_003, 4_000_000]
      const sent = sizes.map((size) => {
        const bytes = new Uint8Array(size)
        for (let at = 0; at < size; at += 61) bytes[at] = (at * 7 + size) & 0xff
        return bytes
      })
      for (const bytes of sent) link.send([bytes.subarray(0, 3), bytes.subarray(3)])
      await harness.settle(ear.until(() => ear.messages.length === sizes.length))
      for (const [index, bytes] of sent.entries()) {
        expect(Buffer.compare(ear.messages[index]!, bytes)).toBe(0)
      }
    })

    it('what was received stays as it is, and may be written into', async () => {
      const kept: Uint8Array[] = []
      const { harness, client } = await listening({}, (side, frames) => {
        const bytes = frames[0]!
        bytes[0] = 0x21
        kept.push(bytes)
        side.link.send([textFrame('ok')])
      })
      const { link, ear } = client()
      for (let index = 0; index < 200; index++) {
        link.send([textFrame(`${index}`.padStart(40, 'x').repeat(10))])
      }
      await harness.settle(ear.until(() => ear.messages.length === 200))
      for (const [index, bytes] of kept.entries()) {
        const expected = `!${`${index}`.padStart(40, 'x').repeat(10).slice(1)}`
        expect(textOf([bytes])).toBe(expected)
      }
    })

    it('several clients each get their own answers', async () => {
      const { harness, client, sides } = await listening({}, echo)
      const clients = Array.from({ length: 5 }, () => client())
      for (const [index, { link }] of clients.entries()) link.send([textFrame(`client ${index}`)])
      for (const [index, { ear }] of clients.entries()) {
        await harness.settle(ear.until(() => ear.messages.length === 1))
        expect(ear.text(0)).toBe(`client ${index}`)
      }
      expect(new Set(sides.map(({ link }) => link.id)).size).toBe(5)
    })

    it('nothing answers: onClose with UNREACHABLE, and quickly', async () => {
      const harness = make()
      const ear = new Ear()
      const link = harness.net.connect(harness.deadAddress(), ear)
      link.send([textFrame('lost')])
      await harness.settle(ear.until(() => ear.isClosed))
      expect(isStreamError(ear.reason, 'UNREACHABLE')).toBe(true)
      expect(ear.isOpen).toBe(false)
      link.send([textFrame('dropped')])
      link.close()
      await harness.end?.()
    })

    it('the server learns that a client has closed, after all its messages', async () => {
      const { harness, client, sides } = await listening()
      const { link, ear } = client()
      await harness.settle(ear.until(() => ear.isOpen))
      for (let index = 0; index < 50; index++) link.send([new Uint8Array(50_000).fill(index)])
      link.close()
      await harness.settle(ear.until(() => ear.isClosed))
      expect(ear.reason).toBeUndefined()
      while (sides[0] === undefined) await harness.settle(Promise.resolve())
      const server = sides[0]
      await harness.settle(server.ear.until(() => server.ear.isClosed))
      expect(server.ear.messages.map((message) => message[7])).toEqual(
        Array.from({ length: 50 }, (_, index) => index),
      )
      server.link.send([textFrame('too late')])
    })

    it('the clients learn that the listener has closed, after what it had sent', async () => {
      const { harness, client, listener } = await listening({}, (side) => {
        for (let index = 0; index < 20; index++) side.link.send([new Uint8Array(100_000)])
      })
      const { link, ear } = client()
      link.send([textFrame('go')])
      await harness.settle(ear.until(() => ear.messages.length === 1))
      await harness.settle(listener.close(1000))
      await harness.settle(ear.until(() => ear.isClosed))
      expect(ear.messages).toHaveLength(20)
    })

    it('after close nothing is sent and nothing is heard', async () => {
      const { harness, client } = await listening({}, echo)
      const { link, ear } = client()
      await harness.settle(ear.until(() => ear.isOpen))
      link.send([textFrame('question')])
      link.close()
      link.close()
      link.send([textFrame('never')])
      await harness.settle(ear.until(() => ear.isClosed))
      expect(ear.messages).toHaveLength(0)
      expect(ear.reason).toBeUndefined()
    })

    it('callbacks never come from inside a call of the link', async () => {
      const { harness, client } = await listening({}, echo)
      const { link, ear } = client()
      await harness.settle(ear.until(() => ear.isOpen))
      link.send([textFrame('x')])
      expect(ear.messages).toHaveLength(0)
      await harness.settle(ear.until(() => ear.messages.length === 1))
      link.close()
      expect(ear.isClosed).toBe(false)
      await harness.settle(ear.until(() => ear.isClosed))
    })

    it('a message beyond the limit never reaches the server', async () => {
      const { harness, client, sides } = await listening({ messageBytesMax: 1000 }, echo)
      const { link, ear } = client()
      link.send([new Uint8Array(1000)])
      await harness.settle(ear.until(() => ear.messages.length === 1))
      link.send([new Uint8Array(1001)])
      await harness.settle(ear.until(() => ear.isClosed))
      expect(sides.flatMap((side) => side.ear.messages).map((bytes) => bytes.length)).toEqual([
        1000,
      ])
    })

    it('a paused listener hears nothing until it is resumed', async () => {
      const { harness, client, listener, sides } = await listening({}, echo)
      const first = client()
      first.link.send([textFrame('a')])
      await harness.settle(first.ear.until(() => first.ear.messages.length === 1))
      listener.pause()
      for (let index = 0; index < 10; index++) first.link.send([textFrame(`${index}`)])
      const heard = sides[0]!.ear.messages.length
      listener.resume()
      await harness.settle(first.ear.until(() => first.ear.messages.length === 11))
      expect(heard).toBe(1)
      expect(first.ear.text(10)).toBe('9')
    })

    it('an address in use is refused', async () => {
      const { harness, listener } = await listening()
      const second = harness.settle(harness.net.listen(listener.address, limits, () => new Ear()))
      await expect(second).rejects.toMatchObject({ code: 'ADDRESS_IN_USE' })
    })

    it('an address that is none is refused', async () => {
      const { net } = make()
      for (const address of [
        '',
        'nothing',
        'http://x:1',
        'ipc://',
        'tcp://host',
        'tcp://host:99999',
      ]) {
        expect(() => net.connect(address, new Ear())).toThrow(/no address/)
        await expect(net.listen(address, limits, () => new Ear())).rejects.toMatchObject({
          code: 'ADDRESS_INVALID',
        })
      }
    })

    if (traits.closable) {
      it('a server can hang up on one client, after its answer', async () => {
        const { harness, client } = await listening({}, (side) => {
          side.link.send([textFrame('goodbye')])
          side.link.close()
        })
        const { link, ear } = client()
        link.send([textFrame('hello')])
        await harness.settle(ear.until(() => ear.isClosed))
        expect(ear.text(0)).toBe('goodbye')
      })

      it('links beyond the limit are hung up on', async () => {
        const { harness, client } = await listening({ linksMax: 1 }, echo)
        const first = client()
        first.link.send([textFrame('a')])
        await harness.settle(first.ear.until(() => first.ear.messages.length === 1))
        const second = client()
        second.link.send([textFrame('b')])
        await harness.settle(second.ear.until(() => second.ear.isClosed))
        expect(second.ear.messages).toHaveLength(0)
      })
    }
  })
}
