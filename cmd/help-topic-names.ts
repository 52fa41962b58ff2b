/** The topics of `stream help` by name, for what needs no more than that. Their texts: help-topics.ts. */

export const helpTopicNames = [
  'formats',
  'positions',
  'guarantees',
  'exit-codes',
  'signals',
  'cluster',
  'line-protocol',
  'library',
] as const
