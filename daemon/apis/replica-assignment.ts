/** Which brokers hold the partitions of a new topic: round robin, each topic beginning one broker further. */

export function assignReplicas(
  brokers: readonly number[],
  options: {
    readonly partitions: number
    /** At most the number of brokers. */
    readonly replicationFactor: number
    readonly startAt: number
  },
): readonly (readonly number[])[] {
  const replicas = Math.min(options.replicationFactor, brokers.length)
  return Array.from({ length: options.partitions }, (_, partition) =>
    Array.from(
      { length: replicas },
      (__, replica) => brokers[(options.startAt + partition + replica) % brokers.length] as number,
    ),
  )
}

/**
 * Why a hand-made assignment is refused; undefined when it is one.
 * @param assignments  in order of partitions
 */
export function findAssignmentDefect(
  assignments: readonly (readonly number[])[],
  brokers: readonly number[],
): string | undefined {
  const factor = assignments[0]?.length ?? 0
  for (const replicas of assignments) {
    if (replicas.length === 0) return 'a partition without replicas'
    if (replicas.length !== factor) return 'partitions with different numbers of replicas'
    if (new Set(replicas).size !== replicas.length) return 'a broker twice in one partition'
    const unknown = replicas.find((id) => !brokers.includes(id))
    if (unknown !== undefined) return `no broker ${unknown}`
  }
  return undefined
}
