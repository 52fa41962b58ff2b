/**
 * What is under way arrives: messages and transactions in any order, some lost, some kept and delivered again later.
 */
import { onPartWritten } from './invariants.ts'
import { onFetch } from './model-leader.ts'
import { onReply } from './model-process.ts'
import { onAnswer } from './model-replica.ts'
import type { Message, ModelWorld } from './model-state.ts'
import type { ModelTxn } from './model-store.ts'

const REPLIES_MAX = 24

/** One message, which may stay under way. */
export function deliver(world: ModelWorld, at: number): void {
  const { random, profile } = world
  const message = world.messages[at] as Message
  if (random.chance(profile.lossPercent)) {
    world.dropMessage(at)
    return
  }
  if (!random.chance(profile.duplicatePercent)) world.dropMessage(at)
  handle(world, message)
}

/** The slot may be used again while the message is handled, so the handler works on a copy. */
export function handle(world: ModelWorld, message: Message): void {
  const copy = world.inHand
  copy.copyFrom(message)
  const to = world.broker(copy.to)
  if (copy.kind === 'fetch') onFetch(world, to, copy)
  else onAnswer(world, to, copy)
}

/** A transaction reaches the store, is lost, or reaches it and comes again later. */
export function transact(world: ModelWorld, at: number): void {
  const { random, profile, txns } = world
  const txn = txns[at] as ModelTxn
  if (!random.chance(profile.duplicatePercent / 2)) {
    txns[at] = txns[txns.length - 1] as ModelTxn
    txns.pop()
    if (random.chance(profile.lossPercent)) return
  }
  apply(world, txn)
}

export function apply(world: ModelWorld, txn: ModelTxn): void {
  const { store } = world
  const before = world.stored()
  const copy = { ...txn }
  if (store.apply(copy)) {
    if (copy.part !== undefined) onPartWritten(world, before, copy.part, copy)
    world.trace?.push(
      `${world.step} store ${store.revision}: ${copy.kind} of b${copy.broker}/${copy.incarnation} applied`,
    )
  }
  if (world.replies.length < REPLIES_MAX) world.replies.push(copy)
}

export function takeReply(world: ModelWorld, at: number): void {
  const { replies, random, profile } = world
  const reply = replies[at] as ModelTxn
  if (!random.chance(profile.duplicatePercent / 2)) {
    replies[at] = replies[replies.length - 1] as ModelTxn
    replies.pop()
    if (random.chance(profile.lossPercent * 2)) return
  }
  onReply(world, reply)
}
