/**
 * Reads and writes message bodies, each plan in the way that pays: interpreted at first, so that a short command never
 * generates code; straight-line code once a plan has been used often.
 */
import { readBody as interpretRead, writeBody as interpretWrite } from './interpreter.ts'
import type { MessagePlan } from './plan.ts'
import {
  type BodyReader,
  type BodyWriter,
  generateReader,
  generateWriter,
} from './straight-line.ts'
import type { WireReader } from './wire-reader.ts'
import type { WireWriter } from './wire-writer.ts'

/** Generating costs about as much as interpreting so many messages. */
const USES_BEFORE_GENERATION = 200

class BodyCodec {
  private reader: BodyReader | undefined
  private writer: BodyWriter | undefined
  private reads = 0
  private writes = 0
  private readonly plan: MessagePlan

  constructor(plan: MessagePlan) {
    this.plan = plan
  }

  read(wire: WireReader): unknown {
    if (this.reader !== undefined) return this.reader(wire)
    if (++this.reads > USES_BEFORE_GENERATION) this.reader = generateReader(this.plan)
    return interpretRead(wire, this.plan)
  }

  write(wire: WireWriter, body: unknown): void {
    if (this.writer !== undefined) {
      this.writer(wire, body)
      return
    }
    if (++this.writes > USES_BEFORE_GENERATION) this.writer = generateWriter(this.plan)
    interpretWrite(wire, this.plan, body)
  }
}

const codecs = new Map<MessagePlan, BodyCodec>()

function codecOf(plan: MessagePlan): BodyCodec {
  let codec = codecs.get(plan)
  if (codec === undefined) {
    codec = new BodyCodec(plan)
    codecs.set(plan, codec)
  }
  return codec
}

/** @throws StreamError MALFORMED_MESSAGE naming the field */
export function readBody(reader: WireReader, plan: MessagePlan): unknown {
  return codecOf(plan).read(reader)
}

/** @throws as interpreter.ts, writeBody */
export function writeBody(writer: WireWriter, plan: MessagePlan, body: unknown): void {
  codecOf(plan).write(writer, body)
}
