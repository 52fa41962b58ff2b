/** From a plan to the writer of its form; only the form that is asked for is loaded. */

import type { ByteOutput } from '../src/ports/stdio.ts'
import { SimdLineDecoder } from '../src/record/line-decoder-simd.ts'
import { LineWriter, RawWriter, type RecordWriter, SizedWriter } from '../src/text/record-writer.ts'
import { KernelPrinter } from './kernel-printer.ts'
import type { ReadPlan } from './read-options.ts'

export interface WriterOptions {
  /** Standard output is a terminal: control bytes of records are shown, not obeyed. */
  readonly isTerminal: boolean
  /** For each record whose bytes contain the delimiter. */
  readonly onAmbiguous: () => void
}

/** @throws UsageError for a format that is none */
export async function makeRecordWriter(
  plan: ReadPlan,
  options: WriterOptions,
): Promise<RecordWriter> {
  const { isTerminal, onAmbiguous } = options
  const visible = async (writer: RecordWriter): Promise<RecordWriter> => {
    if (!isTerminal) return writer
    const { VisibleWriter } = await import('../src/text/visible-writer.ts')
    return new VisibleWriter(writer, plan.form === 'json')
  }
  switch (plan.form) {
    case 'json': {
      const { EnvelopeWriter } = await import('../src/text/envelope-writer.ts')
      return visible(new EnvelopeWriter({ embed: plan.embed, delimiter: plan.delimiter }))
    }
    case 'format': {
      const { parseFormat } = await import('../src/text/format-plan.ts')
      const { FormatWriter } = await import('../src/text/format-writer.ts')
      const nodes = parseFormat(plan.formatText ?? '')
      return new FormatWriter(nodes, { escapeControls: isTerminal, embed: plan.embed })
    }
    case 'sized':
      return visible(new SizedWriter())
    case 'raw':
      return new RawWriter()
    case 'value':
      return new LineWriter({
        delimiter: plan.delimiter,
        ...(plan.keySeparator === undefined ? {} : { keySeparator: plan.keySeparator }),
        ...(plan.nullValue === undefined ? {} : { nullValue: plan.nullValue }),
        escapeControls: isTerminal,
        ...(isTerminal ? {} : { onAmbiguous }),
      })
  }
}

/** Of the forms that a kernel can print (read-output.ts knows when it may): what loads it, once there is much to print. */
export async function kernelLoader(
  plan: ReadPlan,
  output: ByteOutput,
): Promise<(() => KernelPrinter | undefined) | undefined> {
  const { form, delimiter, nullValue } = plan
  if (form === 'value') {
    const options = {
      delimiter: delimiter[0] ?? 0x0a,
      ...(nullValue === undefined ? {} : { nullValue }),
    }
    return () => KernelPrinter.load(output, (memory) => SimdLineDecoder.load(memory, options))
  }
  if (form !== 'json' || plan.embed) return undefined
  const { EnvelopeKernel } = await import('../src/text/envelope-kernel.ts')
  return () => KernelPrinter.load(output, (memory) => EnvelopeKernel.load(memory, { delimiter }))
}
