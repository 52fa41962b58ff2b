import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FrameReader } from '../../../src/io/frame-reader.ts'

function framed(bodies: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(
    bodies.flatMap((body) => {
      const size = Buffer.alloc(4)
      size.writeInt32BE(body.length)
      return [size, body]
    }),
  )
}

function readAll(reader: FrameReader): Uint8Array[] {
  const out: Uint8Array[] = []
  for (let next = reader.next(); next !== undefined; next = reader.next()) out.push(next)
  return out
}

describe('FrameReader', () => {
  it('gives back what was framed, however it was cut', () => {
    const bodies = fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 10 })
    fc.assert(
      fc.property(bodies, fc.array(fc.nat(60), { maxLength: 20 }), (sent, cuts) => {
        const stream = framed(sent)
        const reader = new FrameReader(50)
        const received: Uint8Array[] = []
        let at = 0
        for (const cut of [...cuts, stream.length]) {
          reader.push(stream.slice(at, at + cut))
          at = Math.min(stream.length, at + cut)
          received.push(...readAll(reader))
        }
        reader.push(stream.slice(at))
        received.push(...readAll(reader))
        expect(received.map((body) => [...body])).toEqual(sent.map((body) => [...body]))
      }),
    )
  })

  it('a message inside one chunk is not copied', () => {
    const chunk = new Uint8Array(framed([new Uint8Array(100)]))
    const reader = new FrameReader(100)
    reader.push(chunk)
    expect(reader.next()?.buffer).toBe(chunk.buffer)
  })

  it('any bytes: messages within the limit, or one error', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), (chunks) => {
        const reader = new FrameReader(1000)
        try {
          for (const chunk of chunks) {
            reader.push(chunk)
            for (const message of readAll(reader)) expect(message.length).toBeLessThanOrEqual(1000)
          }
        } catch (error) {
          expect(error).toMatchObject({ code: 'MALFORMED_MESSAGE' })
        }
      }),
    )
  })
})
