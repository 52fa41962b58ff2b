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
  { name: 'daemon start', summary: 'Start the daemon in the background', load: () => import('./daemon-start.ts') },
  { name: 'daemon run', summary: 'Run the daemon in the foreground', load: () => import('./daemon-run.ts') },
  { name: 'daemon stop', summary: 'Stop the daemon', load: () => import('./daemon-stop.ts') },
  { name: 'daemon status', summary: 'Tell whether the daemon runs, and how it does', load: () => import('./daemon-status.ts') },
  { name: 'daemon logs', summary: 'Print what the daemon has logged', load: () => import('./daemon-logs.ts') },
  { name: 'help', summary: 'Print the help of a command or a topic', load: () => import('./help.ts') },
  { name: 'version', summary: 'Print the version', load: () => import('./version.ts') },
]
