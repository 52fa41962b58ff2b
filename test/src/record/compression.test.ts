import { gzipSync, zstdCompressSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  codecFromId,
  codecId,
  codecs,
  compress,
  decompress,
} from '../../../src/record/compression.ts'
import { base64, hex, toHex } from './record-support.ts'

const packed = codecs.slice(1)
const MIB = 1024 * 1024

/** 'linked blocks ' 10,000 times, by the command-line tools lz4 1.9.4 and zstd. */
const foreign = {
  'lz4 -BD, linked blocks and a content checksum':
    'BCJNGERAXhgBAADvbGlua2VkIGJsb2NrcyAOAP/////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////aUGtzIGxpCgEAAA8OAP/////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////oUCBsaW5rLAAAAA8OAP/////////////////////////////////////////////qUG9ja3MgAAAAAFx0MTI=',
  'lz4 -BX, block checksums and content size':
    'BCJNGHxA4CICAAAAAAD/GAEAAO9saW5rZWQgYmxvY2tzIA4A/////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////9pQa3MgbGmj+/lHGAEAAO9ua2VkIGJsb2NrcyBsaQ4A/////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////9pQIGxpbmsfYOMCOgAAAO9lZCBibG9ja3MgbGluaw4A/////////////////////////////////////////////9xQb2NrcyAECIYxAAAAAFx0MTI=',
  'lz4 -BD -BX, linked blocks with checksums':
    'BCJNGFBAwBgBAADvbGlua2VkIGJsb2NrcyAOAP/////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////aUGtzIGxpo/v5RwoBAAAPDgD/////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////////6FAgbGlua+c5ebssAAAADw4A/////////////////////////////////////////////+pQb2NrcyDb7XqlAAAAAA==',
  'zstd -19': 'KLUv/aDgIgIAtAAAcGxpbmtlZCBibG9ja3MgAQDv/5FPJUUAAAABAN0i+AkE',
} as const
const foreignText = Buffer.from('linked blocks '.repeat(10_000))

describe('codecs', () => {
  test('have Kafka’s numbers', () => {
    expect(codecs.map(codecId)).toEqual([0, 1, 2, 3, 4])
    expect(codecFromId(4)).toBe('zstd')
    for (const id of [5, 6, 7, -1]) {
      expect(() => codecFromId(id)).toThrow(
        expect.objectContaining({ code: 'UNSUPPORTED_COMPRESSION' }),
      )
    }
  })

  test.each(packed)('%s: decompress(compress(x)) = x', (codec) => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 300 }), fc.nat(600), (bytes, times) => {
        const input = new Uint8Array(Buffer.concat(Array(times).fill(bytes)))
        if (input.length === 0) return
        const output = decompress(codec, compress(codec, input))
        expect(Buffer.compare(output, input)).toBe(0)
      }),
      { numRuns: 60 },
    )
  })

  test.each(packed)('%s: bytes that do not compress, over several blocks', (codec) => {
    let state = 1
    const input = new Uint8Array(300_000).map(() => {
      state = (Math.imul(state, 1103515245) + 12345) | 0
      return state >>> 16
    })
    const output = compress(codec, input)
    expect(output.length).toBeLessThan(input.length * 1.01)
    expect(Buffer.compare(decompress(codec, output), input)).toBe(0)
  })

  test.each(packed)('%s: expands to just the bytes allowed, and no byte beyond', (codec) => {
    const input = Buffer.from('0123456789'.repeat(20_000))
    const data = compress(codec, input)
    expect(decompress(codec, data, { bytesMax: input.length })).toHaveLength(input.length)
    expect(() => decompress(codec, data, { bytesMax: input.length - 1 })).toThrow(
      expect.objectContaining({ code: 'DECOMPRESSION_LIMIT' }),
    )
  })

  test('none: is bounded too', () => {
    expect(() => decompress('none', new Uint8Array(11), { bytesMax: 10 })).toThrow(
      expect.objectContaining({ code: 'DECOMPRESSION_LIMIT' }),
    )
  })

  test('a bomb stops at the ratio, long before the bytes allowed', () => {
    const bomb = zstdCompressSync(new Uint8Array(64 * MIB))
    expect(bomb.length).toBeLessThan(16 * 1024)
    expect(() => decompress('zstd', bomb, { bytesMax: 1024 * MIB, ratioMax: 100 })).toThrow(
      expect.objectContaining({ code: 'DECOMPRESSION_LIMIT' }),
    )
    const small = zstdCompressSync(new Uint8Array(3 * MIB))
    expect(decompress('zstd', small, { ratioMax: 100 })).toHaveLength(3 * MIB)
  })

  test.each(packed)('%s: data cut at any place is CORRUPT_BATCH', (codec) => {
    const data = compress(codec, Buffer.from('some line of text\n'.repeat(20)))
    for (let length = 0; length < data.length; length++) {
      // A xerial stream without blocks and a raw block cut at its end are the library's to judge.
      if (codec === 'snappy' && length === 16) continue
      expect(() => decompress(codec, data.subarray(0, length)), `length ${length}`).toThrow(
        expect.objectContaining({ code: 'CORRUPT_BATCH' }),
      )
    }
  })
})

describe('gzip', () => {
  test('reads several members in a row', () => {
    const two = Buffer.concat([gzipSync('one '), gzipSync('two')])
    expect(Buffer.from(decompress('gzip', two)).toString()).toBe('one two')
  })
})

describe('zstd', () => {
  test('reads several frames in a row', () => {
    const skippable = hex('5a2a4d1803000000aabbcc')
    const two = Buffer.concat([zstdCompressSync('one '), skippable, zstdCompressSync('two')])
    expect(Buffer.from(decompress('zstd', two)).toString()).toBe('one two')
    expect(() => decompress('zstd', two, { bytesMax: 6 })).toThrow(
      expect.objectContaining({ code: 'DECOMPRESSION_LIMIT' }),
    )
    const long = zstdCompressSync(Buffer.from('0123456789'.repeat(100_000)))
    expect(decompress('zstd', Buffer.concat([long, long, long]))).toHaveLength(3_000_000)
  })

  test('bytes after the last frame are refused', () => {
    for (const rest of ['00', '0000000000', '5a2a4d1803000000aabb', '28b52ffd']) {
      const data = Buffer.concat([zstdCompressSync('one'), hex(rest)])
      expect(() => decompress('zstd', data), rest).toThrow(
        expect.objectContaining({ code: 'CORRUPT_BATCH' }),
      )
    }
  })

  test('reads what the tool zstd wrote', () => {
    expect(Buffer.compare(decompress('zstd', base64(foreign['zstd -19'])), foreignText)).toBe(0)
  })

  test('a window beyond 128 MiB is refused', () => {
    // Magic, a frame header that asks for 256 MiB (descriptor 0, window 0x90), an empty last block.
    const frame = hex('28b52ffd0090010000')
    expect(() => decompress('zstd', frame)).toThrow(
      expect.objectContaining({ code: 'CORRUPT_BATCH' }),
    )
  })
})

describe('snappy', () => {
  test('is written as xerial: magic, versions 1 and 1, sized blocks', () => {
    expect(toHex(compress('snappy', Buffer.from('hello')))).toBe(
      '82534e4150505900' + '00000001' + '00000001' + '00000007' + '051068656c6c6f',
    )
  })

  test('reads one raw block, as librdkafka writes it', () => {
    expect(Buffer.from(decompress('snappy', hex('051068656c6c6f'))).toString()).toBe('hello')
  })

  test('a claimed length that the block cannot make is not allocated', () => {
    for (const block of ['ffffffff0f10', 'ffffff7f1068656c6c6f', 'ff7f0000', '808080808080']) {
      expect(() => decompress('snappy', hex(block))).toThrow(
        expect.objectContaining({ code: 'CORRUPT_BATCH' }),
      )
    }
  })

  test('a xerial block longer than the data is refused', () => {
    const header = '82534e41505059000000000100000001'
    for (const rest of ['7fffffff05', 'ffffffff', '00000008051068656c6c6f', '0000']) {
      expect(() => decompress('snappy', hex(header + rest))).toThrow(
        expect.objectContaining({ code: 'CORRUPT_BATCH' }),
      )
    }
  })
})

describe('lz4', () => {
  test('is written as a frame of independent 64 KiB blocks, which Java asks for', () => {
    const frame = compress('lz4', Buffer.from('hello'))
    // Magic, version 1 and independent, 64 KiB, header checksum, a stored block of 5, the end.
    expect(toHex(frame)).toBe('04224d18' + '6040' + '82' + '05000080' + '68656c6c6f' + '00000000')
  })

  test.each(Object.entries(foreign).filter(([name]) => name.startsWith('lz4')))(
    'reads %s',
    (_, text) => {
      const frame = base64(text)
      expect(Buffer.compare(decompress('lz4', frame), foreignText)).toBe(0)
      const twice = decompress('lz4', Buffer.concat([frame, frame]))
      expect(twice).toHaveLength(2 * foreignText.length)
    },
  )

  test('a wrong checksum of header, block or content is refused', () => {
    const frame = base64(foreign['lz4 -BX, block checksums and content size'])
    // Header checksum, content size, a byte of the first block, its checksum, the content checksum.
    for (const at of [14, 6, 20, 19 + 280, frame.length - 1]) {
      const damaged = frame.slice()
      damaged[at] = (damaged[at] as number) ^ 1
      expect(() => decompress('lz4', damaged), `byte ${at}`).toThrow(
        expect.objectContaining({ code: 'CORRUPT_BATCH' }),
      )
    }
  })

  test('bytes after the last frame are refused', () => {
    const frame = Buffer.concat([compress('lz4', Buffer.from('hello')), Buffer.from([0])])
    expect(() => decompress('lz4', frame)).toThrow(
      expect.objectContaining({ code: 'CORRUPT_BATCH' }),
    )
  })
})
