/**
 * The rules of replication.md that the model can leave out, one at a time. Each says what goes wrong without it; RESULTS.md says what
 * the model found. A rule is true when it is in force.
 */

export const RULES = {
  strictMinInSync:
    'the high watermark rests while the in-sync replicas are fewer than minIsr (2.3)',
  durableNotEnd:
    'with commit flush a replica counts with what is durable, not with its log end (7.1)',
  shrinkWhenConfirmed: 'a replica proposed for removal counts until the store has confirmed (2.4)',
  expandAtOnce: 'a replica proposed for the in-sync set counts at once (2.4)',
  expandAboveHighWatermark: 'expand rule 2: the follower has reached the high watermark',
  expandAboveEpochStart:
    'expand rule 3 (LESO): the follower has reached the start of the leader epoch',
  expandFetchedInEpoch: 'expand rule 4: the follower has fetched in this leader epoch',
  expandEligible:
    'expand rule 5 at the leader: unfenced, and the session and data epochs of the fetch',
  expandCaughtUp: 'expand rule 6: below minIsr the follower is caught up',
  expandGuardLive: 'T4 compares cr(live/f) with the session of the fetch',
  expandGuardData: 'T4 compares mr(data/f) with the data epoch of the fetch',
  expandGuardRegistration: 'T4 compares mr(reg/f), seen ACTIVE',
  divergenceCheck: 'a fetch position counts, and is served, only behind the divergence check (2.2)',
  forgottenEpochStartsOver:
    "a follower whose last epoch lies below the leader's log start begins anew there (2.5)",
  emptyStartsOver:
    "an empty follower that is no member begins at the leader's log start, not where its own was (2.5)",
  fetchLeaderEpoch: 'a fetch of another leader epoch is refused (2.2)',
  fetchSessionOrder: 'a fetch of an earlier session of the follower is refused (13)',
  fetchNumberOrder: 'of one session an earlier fetch is refused (7.1)',
  fetchPositionNeverFalls:
    'a follower whose acknowledged position falls at the same data epoch is refused (13)',
  entryDataEpoch: 'an in-sync entry counts only while its data epoch is that of the fetches (13)',
  tableClearedPerEpoch: 'the follower table is cleared with each leader epoch (5.7)',
  truncateByEpochNotWatermark: 'a new follower does not truncate to its high watermark (2.5)',
  durableFallsWithTruncation: 'durable falls with a truncation (7.1)',
  cutCancelsSync: 'an fdatasync begun before a truncation does not raise durable (7.1)',
  oneShotAnswers: 'a follower takes only the answer to its one outstanding fetch (5.7)',
  refuseBelowWatermark: 'I10: a follower refuses to truncate below its high watermark',
  dataEpoch: 'a lossy start rewrites the data epoch in the transaction that registers (T7)',
  leaderIncarnation: 'a restarted process does not lead at an epoch of its predecessor (5.3)',
  freshReadBeforeLeading: 'a linearizable read confirms a leadership before it begins (5.7)',
  unknownIsNotFailed: 'a timed-out CAS stays pending: sent again, or its token burnt (5.4)',
  selfGuardOfLeader: 'T4 and T5 compare cr(live/self) (5.4)',
  electGuardLive: 'T3 compares cr(live/x) of a broker it names as leader',
  electGuardData: 'T3 compares mr(data/x) of a broker it names as leader',
  controllerGuard: 'T3 and T6 compare the controller epoch',
  electWholeOnly: 'next() takes only members whose data epoch is current',
  eligibleClearedByController: 'next() clears the ELR when the in-sync replicas reach minIsr',
  eligibleClearedAfterElection: 'next() applies the ELR rule after the election',
  eligibleClearedByLeader: 'T4 clears the ELR when the in-sync replicas reach minIsr',
  eligibleClearedOnMinInSync: 'a change of minIsr clears the ELR',
  activateAfterEvaluation:
    'T6 only after the partitions were re-evaluated with the broker fenced (5.4)',
  registerAgainGuard: 'T1f compares mr(reg/b)',
  removalRaisesEpoch: 'the leader epoch rises when replicas leave the assignment (2.8)',
  noExpansionWhileRecovering:
    'no expansion before the recovered leader has cleared recovering (5.3)',
} as const satisfies Record<string, string>

export type RuleName = keyof typeof RULES
export type Rules = Record<RuleName, boolean>

export const RULE_NAMES = Object.keys(RULES) as RuleName[]

/** All rules in force but those named. */
export function rulesWithout(...names: readonly RuleName[]): Rules {
  const rules = Object.fromEntries(RULE_NAMES.map((name) => [name, true])) as Rules
  for (const name of names) rules[name] = false
  return rules
}
