/**
 * The manual as roff, from the same tables as parser and help: one page per command (`stream-topics-create.1`), one for
 * `stream` and one for each help topic (section 7). Nothing here is written by hand twice.
 */

import { commands } from '../cmd/commands.ts'
import { exitCodes } from '../cmd/exit-code.ts'
import { helpTopics } from '../cmd/help-topics.ts'
import { type CommandSpec, commonOptions, type OptionSpec } from '../cmd/option-table.ts'

export interface ManPage {
  /** `stream-produce.1` */
  readonly fileName: string
  readonly roff: string
}

export async function makeManPages(version: string): Promise<ManPage[]> {
  const pages: ManPage[] = [mainPage(version)]
  for (const entry of commands) {
    const { spec } = await entry.load()
    pages.push({ fileName: `${pageName(spec.name)}.1`, roff: commandPage(spec, version) })
  }
  for (const topic of helpTopics) {
    pages.push({
      fileName: `stream-${topic.name}.7`,
      roff: [
        header(`stream-${topic.name}`, 7, version),
        section('NAME', [escapeRoff(`stream-${topic.name} - ${topic.summary}`)]),
        section('DESCRIPTION', ['.nf', ...topic.text.split('\n').map(escapeRoff), '.fi']),
      ].join(''),
    })
  }
  return pages
}

function pageName(commandName: string): string {
  return `stream-${commandName.replaceAll(' ', '-')}`
}

function mainPage(version: string): ManPage {
  const roff = [
    header('stream', 1, version),
    section('NAME', ['stream \\- durable, partitioned logs behind small commands']),
    section('SYNOPSIS', ['.B stream', escapeRoff('COMMAND [arguments] [flags]')]),
    section(
      'COMMANDS',
      commands.flatMap(({ name, summary }) => [
        '.TP',
        `.B ${escapeRoff(name)}`,
        escapeRoff(`${summary}. See ${pageName(name)}(1).`),
      ]),
    ),
    section('FLAGS OF ALL COMMANDS', optionLines(commonOptions)),
    section('EXIT STATUS', exitLines(exitCodes)),
    section('SEE ALSO', [escapeRoff(helpTopics.map(({ name }) => `stream-${name}(7)`).join(', '))]),
  ]
  return { fileName: 'stream.1', roff: roff.join('') }
}

function commandPage(spec: CommandSpec, version: string): string {
  const name = pageName(spec.name)
  const operands = spec.operands.map(({ name: operand, isOptional, isRepeatable }) => {
    const many = isRepeatable === true ? `${operand}...` : operand
    return isOptional === true ? `[${many}]` : many
  })
  return [
    header(name, 1, version),
    section('NAME', [escapeRoff(`${name} - ${spec.summary.toLowerCase()}`)]),
    section('SYNOPSIS', [
      `.B stream ${escapeRoff(spec.name)}`,
      escapeRoff([...operands, '[flags]'].join(' ')),
    ]),
    section('DESCRIPTION', [
      escapeRoff(`${spec.summary}.`),
      ...spec.description.flatMap((paragraph) => ['.PP', escapeRoff(paragraph)]),
      ...(spec.columns === undefined
        ? []
        : ['.PP', escapeRoff(`Columns: ${spec.columns.join(' ')}`)]),
    ]),
    ...(spec.options.length === 0 ? [] : [section('FLAGS', optionLines(spec.options))]),
    section('FLAGS OF ALL COMMANDS', optionLines(commonOptions)),
    ...(spec.exits === undefined ? [] : [section('EXIT STATUS', exitLines(spec.exits))]),
    section(
      'EXAMPLES',
      spec.examples.flatMap(({ line, help }) => [
        '.PP',
        '.nf',
        escapeRoff(`    ${line}`),
        '.fi',
        ...(help === undefined ? [] : [escapeRoff(help)]),
      ]),
    ),
    section('SEE ALSO', ['stream(1), stream\\-exit\\-codes(7)']),
  ].join('')
}

function optionLines(options: readonly OptionSpec[]): string[] {
  return options.flatMap((option) => {
    const short = option.short === undefined ? '' : `\\fB\\-${option.short}\\fR, `
    const argument = option.argument === undefined ? '' : ` \\fI${escapeRoff(option.argument)}\\fR`
    const choices = option.choices === undefined ? '' : `; one of ${option.choices.join(', ')}`
    const many = option.isRepeatable === true ? '; repeatable' : ''
    const initial = option.default === undefined ? '' : ` (default ${option.default})`
    return [
      '.TP',
      `${short}\\fB${escapeRoff(`--${option.long}`)}\\fR${argument}`,
      escapeRoff(`${option.help}${choices}${many}${initial}`),
    ]
  })
}

function exitLines(exits: readonly (readonly [code: number, meaning: string])[]): string[] {
  return exits.flatMap(([code, meaning]) => ['.TP', `.B ${code}`, escapeRoff(meaning)])
}

function header(name: string, part: number, version: string): string {
  return `.TH "${escapeRoff(name.toUpperCase())}" ${part} "" "stream ${version}" "stream"\n`
}

function section(title: string, lines: readonly string[]): string {
  return `.SH ${title}\n${lines.join('\n')}\n`
}

/** A dash that is typed is `\-`; a dot or quote at the beginning of a line would be a request. */
export function escapeRoff(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^(\s*)([.'])/, '$1\\&$2')
}
