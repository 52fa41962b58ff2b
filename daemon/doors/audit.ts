/**
 * What clients have changed, for the operator: a line for each request that made, changed or deleted anything but records that are
 * appended and positions that are committed. It is written where the request came in, since only the door knows who asked.
 */

import type { Log } from '../../src/ports/log.ts'
import type { Request } from '../../src/protocol/api-table.ts'
import type { Answer } from '../apis/handler.ts'
import type { HandledApi } from '../apis/listed-ranges.ts'

const NAMES_MAX = 10

interface Audit<A extends HandledApi> {
  /** What the client has done. */
  readonly what: string
  /** To what: only where it was done. */
  readonly names: (answer: NonNullable<Answer<A>>, request: Request<A>) => readonly string[]
}

interface Outcome {
  readonly errorCode: number
}

interface Resource extends Outcome {
  readonly resourceName: string
}

interface ConfigsAltered {
  readonly responses: readonly Resource[]
}

const isDone = ({ errorCode }: Outcome): boolean => errorCode === 0

const altered = (
  { responses }: ConfigsAltered,
  { validateOnly }: { readonly validateOnly: boolean },
): readonly string[] =>
  validateOnly ? [] : responses.filter(isDone).map((row) => row.resourceName || 'all brokers')

const audits: { readonly [A in HandledApi]?: Audit<A> } = {
  CreateTopics: {
    what: 'made topics',
    names: ({ topics }, { validateOnly }) =>
      validateOnly ? [] : topics.filter(isDone).map(({ name }) => name),
  },
  DeleteTopics: {
    what: 'deleted topics',
    names: ({ responses }) => responses.filter(isDone).map(({ name }) => name ?? 'one by its id'),
  },
  CreatePartitions: {
    what: 'added partitions',
    names: ({ results }, { validateOnly }) =>
      validateOnly ? [] : results.filter(isDone).map(({ name }) => name),
  },
  DeleteRecords: {
    what: 'deleted records',
    names: ({ topics }) =>
      topics.flatMap(({ name, partitions }) =>
        partitions
          .filter(isDone)
          .map((row) => `${name}-${row.partitionIndex} below ${row.lowWatermark}`),
      ),
  },
  AlterConfigs: { what: 'changed settings', names: altered },
  IncrementalAlterConfigs: { what: 'changed settings', names: altered },
  DeleteGroups: {
    what: 'deleted groups',
    names: ({ results }) => results.filter(isDone).map(({ groupId }) => groupId),
  },
  OffsetDelete: {
    what: 'deleted offsets of a group',
    names: ({ errorCode, topics }, { groupId }) =>
      errorCode === 0 && topics.length > 0 ? [groupId] : [],
  },
  AlterUserScramCredentials: {
    what: 'changed users',
    names: ({ results }, { upsertions }) =>
      results.filter(isDone).map(({ user }) => {
        const isDeleted = !upsertions.some(({ name }) => name === user)
        return isDeleted ? `${user} (deleted)` : user
      }),
  },
  AlterPartitionReassignments: {
    what: 'moved partitions',
    names: ({ errorCode, responses }) =>
      errorCode === 0
        ? responses.filter(({ partitions }) => partitions.some(isDone)).map(({ name }) => name)
        : [],
  },
  UnregisterBroker: {
    what: 'taken out a broker',
    names: ({ errorCode }, { brokerId }) => (errorCode === 0 ? [`${brokerId}`] : []),
  },
  CreateLink: {
    what: 'made a link',
    names: ({ failure }, { name }) => (failure === null ? [name] : []),
  },
  AlterLink: {
    what: 'changed a link',
    names: ({ failure }, { name, action }) => (failure === null ? [`${name} (${action})`] : []),
  },
}

export interface Asker {
  /** undefined: the door asks for no login. */
  readonly user: string | undefined
  readonly clientId: string | null
  readonly peer: string
}

export function isAudited(api: HandledApi): boolean {
  return audits[api] !== undefined
}

export function audit<A extends HandledApi>(
  log: Log,
  api: A,
  request: Request<A>,
  answer: Answer<A>,
  { user, clientId, peer }: Asker,
): void {
  const row: Audit<A> | undefined = audits[api]
  if (row === undefined || answer === undefined) return
  const names = row.names(answer as NonNullable<Answer<A>>, request)
  if (names.length === 0) return
  const more = names.length - NAMES_MAX
  const listed = names.slice(0, NAMES_MAX).join(', ')
  log.info(`a client has ${row.what}`, {
    names: more > 0 ? `${listed} and ${more} more` : listed,
    user,
    client: clientId ?? undefined,
    peer,
  })
}
