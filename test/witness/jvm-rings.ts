/**
 * Rings over a Kafka broker, which knows nothing of mirrors: what our copies leave in it is seen by whoever copies or links from it,
 * and what a link from it says is seen by whoever copies into it.
 */
import assert from 'node:assert/strict'
import { Sites } from '../support/mirror-sites.ts'
import { eventually } from '../support/program.ts'
import type { Checks } from './jvm-checks.ts'
import { KafkaBroker } from './jvm-kafka.ts'
import type { Stage } from './jvm-stage.ts'

export async function checkRings({ kafka, program }: Stage, checks: Checks): Promise<void> {
  const broker = await KafkaBroker.start(kafka, program.path('kafka'))
  const sites = new Sites()
  sites.program.environment['K'] = `kafka://${broker.address}`
  const level = (name: string, at: string): string =>
    `stream mirror lag ${name} -b ${at} --wait-until 0 --timeout 60s`
  const refused = (line: string): string => {
    const { status, stdout, stderr } = sites.shell(line)
    assert.deepEqual([status, stdout], [8, ''], stderr)
    assert.match(stderr, /ring/)
    assert.equal(stderr.trimEnd().split('\n').length, 1, stderr)
    return stderr.trim()
  }
  try {
    for (const name of ['a', 'b']) sites.start(name)
    await checks.check('A is copied to Kafka: neither a link nor a copy back to A', () => {
      sites.ok('seq 50 | stream produce t -b $A --create')
      sites.ok('stream mirror $A --topics t --rename a.t -b $K')
      refused("stream mirror $K --topics 'a.*' -b $A")
      return refused("stream mirror link back -b $A --source $K --topics 'a.*'")
    })
    await checks.check('A is linked to B, B copied to Kafka: not back to A, nor to B', () => {
      sites.ok(`stream mirror link west -b $B --source $A --topics t; ${level('west', '$B')}`)
      sites.ok('stream mirror $B --topics t --rename b.t -b $K')
      refused("stream mirror $K --topics 'b.*' -b $A")
      refused("stream mirror link back -b $B --source $K --topics 'b.*'")
      return refused("stream mirror link back -b $A --source $K --topics 'b.*'")
    })
    await checks.check('what is linked from Kafka is not copied into it again', () => {
      sites.ok('seq 50 | stream produce k -b $K --create')
      sites.ok(`stream mirror link from -b $A --source $K --topics k; ${level('from', '$A')}`)
      sites.ok(`stream mirror link on -b $B --source $A --topics k; ${level('on', '$B')}`)
      refused('stream mirror $A --topics k --rename again -b $K')
      return refused('stream mirror $B --topics k --rename again -b $K')
    })
    await checks.check('a link is not followed any more once a copy closes the ring', async () => {
      sites.ok('stream mirror $A --topics t --rename k --append -b $K')
      await eventually('it is told', () =>
        /the ring is not closed/.test(sites.ok('stream mirror status from -b $A'))
          ? true
          : undefined,
      )
      const before = sites.ok('stream cat k -b $A')
      sites.ok('echo late | stream produce k -b $K; sleep 2')
      assert.equal(sites.ok('stream cat k -b $A'), before)
      return sites.ok('stream mirror status from -b $A').trim().replaceAll('\t', ' ')
    })
    await checks.check('a ring that waits for its last piece is not taken up', async () => {
      sites.ok("stream mirror link wait -b $A --source $K --topics 'later*'")
      sites.ok('stream mirror $A --topics t --rename later -b $K')
      await eventually('it is told', () =>
        /later\t.*the ring is not closed/.test(sites.ok('stream mirror status wait -b $A'))
          ? true
          : undefined,
      )
      assert.doesNotMatch(sites.ok('stream topics list -b $A'), /^later/m)
      return 'told, and no topic made'
    })
    await checks.check('both ways over Kafka with --tag-origin: each record once', () => {
      const both =
        'stream mirror $A --topics p --rename p --append --tag-origin -b $K; stream mirror $K --topics p --append --tag-origin -b $A'
      sites.ok(
        'seq 1 50 | stream produce p -b $A --create; seq 51 90 | stream produce p -b $K --create',
      )
      sites.ok(`${both}; ${both}; ${both}`)
      const sorted = (at: string): string => sites.ok(`stream cat p -b ${at} | sort -n`)
      assert.equal(sorted('$A'), sites.ok('seq 90'))
      assert.equal(sorted('$K'), sites.ok('seq 90'))
      return '90 records at either, after three rounds'
    })
  } finally {
    sites.stop()
    await broker.stop()
  }
}
