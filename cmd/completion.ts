/** `stream completion`: the script for a shell. It asks `stream completion words` for what may stand at the cursor. */

import { UsageError } from '../src/base/errors.ts'
import { nearestName } from '../src/config/nearest-name.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { CommandSpec } from './option-table.ts'
import { printText } from './row-output.ts'

export const spec: CommandSpec = {
  name: 'completion',
  summary: 'Print the completion script for a shell',
  description: [
    'Commands, flags and their values are completed from the same tables that --help prints; topics and contexts live, within 200 ms or not at all. A daemon is never started for it. install.sh puts the scripts where the shells look for them.',
    'The scripts run stream completion words WORD…, which prints what may stand in the place of the last WORD, one a line, each with a tab and a word of help where there is one.',
  ],
  operands: [{ name: 'bash|zsh|fish' }],
  options: [],
  examples: [
    { line: 'eval "$(stream completion bash)"', help: 'in ~/.bashrc' },
    { line: 'stream completion fish > ~/.config/fish/completions/stream.fish' },
  ],
}

const bash = `# bash completion for stream; made by: stream completion bash
_stream() {
  local IFS=$'\\n' line candidates=() cur=\${COMP_WORDS[COMP_CWORD]}
  # bash splits words at = and :, which stand in values of flags and in addresses.
  local words=("\${COMP_WORDS[@]:1:COMP_CWORD}")
  if declare -F _get_comp_words_by_ref >/dev/null; then
    local list at
    _get_comp_words_by_ref -n =: -w list -i at -c cur
    words=("\${list[@]:1:at}")
  fi
  while IFS= read -r line; do
    candidates+=("\${line%%$'\\t'*}")
  done < <("\${COMP_WORDS[0]}" completion words -- "\${words[@]}" 2>/dev/null)
  if [ "\${candidates[0]-}" = ':files' ]; then
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$cur"))
    return
  fi
  COMPREPLY=($(compgen -W "\${candidates[*]}" -- "$cur"))
  [ "\${#COMPREPLY[@]}" = 1 ] && [ "\${COMPREPLY[0]: -1}" = '=' ] && compopt -o nospace 2>/dev/null
  declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "$cur"
}
complete -F _stream stream
`

const zsh = `#compdef stream
# zsh completion for stream; made by: stream completion zsh
_stream() {
  local line candidates described
  candidates=(); described=()
  while IFS= read -r line; do
    candidates+=("\${line%%$'\\t'*}")
    described+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
  done < <("\${words[1]}" completion words -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  if [ "\${candidates[1]-}" = ':files' ]; then
    _files
    return
  fi
  [ \${#described} -gt 0 ] && _describe -V 'stream' described
}
if [ "\${funcstack[1]-}" = _stream ]; then
  _stream "$@"
else
  compdef _stream stream
fi
`

const fish = `# fish completion for stream; made by: stream completion fish
function __stream_complete
  set -l words (commandline -opc) (commandline -ct)
  set -l lines ($words[1] completion words -- $words[2..-1] 2>/dev/null)
  if test "$lines[1]" = ':files'
    __fish_complete_path (commandline -ct)
  else
    printf '%s\\n' $lines
  end
end
complete -c stream -f -a '(__stream_complete)'
`

const scripts: Readonly<Record<string, string>> = { bash, zsh, fish }

export async function run(deps: CommandDeps, { operands }: CommandArgs): Promise<number> {
  const [shell, ...words] = operands
  if (shell === 'words') {
    const { completeWords } = await import('./completion-words.ts')
    return completeWords(deps, words)
  }
  if (words.length > 0) throw new UsageError(`unexpected argument ${words[0]}`)
  const script = shell === undefined ? undefined : scripts[shell]
  if (script === undefined) {
    const nearest = nearestName(shell ?? '', Object.keys(scripts))
    throw new UsageError(
      shell === undefined ? 'the shell is missing' : `${shell}: no such shell`,
      nearest === undefined ? 'one of bash, zsh, fish' : `did you mean ${nearest}?`,
    )
  }
  await printText(deps.stdio.output, script)
  return 0
}
