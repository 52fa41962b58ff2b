/**
 * All commands: what each does, and how it is loaded. Only the command that runs is loaded, and its name and summary
 * are here so that the help of `stream` loads none.
 */

import type { CommandEntry } from './deps.ts'

// biome-ignore format: one row, one line
export const commands: readonly CommandEntry[] = [
  { name: 'produce', summary: 'Send records from standard input or files to a topic', load: () => import('./produce.ts') },
  { name: 'consume', summary: 'Print records of topics, and follow', load: () => import('./consume.ts') },
  { name: 'cat', summary: 'Print the records of topics from the start to the end', load: () => import('./cat.ts') },
  { name: 'tail', summary: 'Print the last records of topics, and follow', load: () => import('./tail.ts') },
  { name: 'get', summary: 'Print the latest value of a key', load: () => import('./get.ts') },
  { name: 'verify', summary: 'Compare the records of two topics, or of a topic and a file', load: () => import('./verify.ts') },
  { name: 'topics list', summary: 'List topics', load: () => import('./topics-list.ts') },
  { name: 'topics describe', summary: 'Describe the partitions or the settings of topics', load: () => import('./topics-describe.ts') },
  { name: 'topics create', summary: 'Create topics', load: () => import('./topics-create.ts') },
  { name: 'topics alter', summary: 'Change settings of topics, or add partitions', load: () => import('./topics-alter.ts') },
  { name: 'topics delete', summary: 'Delete topics with all their records', load: () => import('./topics-delete.ts') },
  { name: 'topics trim', summary: 'Delete the oldest records of topics', load: () => import('./topics-trim.ts') },
  { name: 'tap', summary: 'Pass standard input on, and send a copy of its lines to a topic', load: () => import('./tap.ts') },
  { name: 'dump', summary: "Print a partition's records from its files, without a daemon", load: () => import('./dump.ts') },
  { name: 'fsck', summary: 'Check a data directory, and repair it', load: () => import('./fsck.ts') },
  { name: 'topics apply', summary: 'Make the topics what a file says', load: () => import('./topics-apply.ts') },
  { name: 'topics diff', summary: 'Show how the topics differ from a file', load: () => import('./topics-diff.ts') },
  { name: 'topics wait', summary: 'Wait until topics are as they should be', load: () => import('./topics-wait.ts') },
  { name: 'daemon start', summary: 'Start the daemon in the background', load: () => import('./daemon-start.ts') },
  { name: 'daemon run', summary: 'Run the daemon in the foreground', load: () => import('./daemon-run.ts') },
  { name: 'daemon stop', summary: 'Stop the daemon', load: () => import('./daemon-stop.ts') },
  { name: 'daemon status', summary: 'Tell whether the daemon runs, and how it does', load: () => import('./daemon-status.ts') },
  { name: 'daemon logs', summary: 'Print what the daemon has logged', load: () => import('./daemon-logs.ts') },
  { name: 'bench', summary: 'Measure the broker from here', load: () => import('./bench.ts') },
  { name: 'config list', summary: 'List the settings in force and where they come from', load: () => import('./config-list.ts') },
  { name: 'config get', summary: 'Print the value of a setting', load: () => import('./config-get.ts') },
  { name: 'config set', summary: "Set a setting in the user's config file", load: () => import('./config-set.ts') },
  { name: 'config unset', summary: "Take a setting out of the user's config file", load: () => import('./config-unset.ts') },
  { name: 'config keys', summary: 'List all config keys', load: () => import('./config-keys.ts') },
  { name: 'context list', summary: 'List the named brokers', load: () => import('./context-list.ts') },
  { name: 'context show', summary: 'Show the settings of a named broker', load: () => import('./context-show.ts') },
  { name: 'context use', summary: 'Make a named broker the one that commands use', load: () => import('./context-use.ts') },
  { name: 'context set', summary: 'Make a named broker, or change one', load: () => import('./context-set.ts') },
  { name: 'context delete', summary: 'Forget a named broker', load: () => import('./context-delete.ts') },
  { name: 'completion', summary: 'Print the completion script for a shell', load: () => import('./completion.ts') },
  { name: 'explain', summary: 'Explain an error or an exit code', load: () => import('./explain.ts') },
  { name: 'help', summary: 'Print the help of a command or a topic', load: () => import('./help.ts') },
  { name: 'version', summary: 'Print the version', load: () => import('./version.ts') },
]
