/** Our commands with groups and transactions, with a real Kafka broker as the engine. */
import assert from 'node:assert/strict'
import type { Checks } from './jvm-checks.ts'
import { KafkaBroker } from './jvm-kafka.ts'
import type { Stage } from './jvm-stage.ts'

export async function checkCommands({ kafka, program }: Stage, checks: Checks): Promise<void> {
  const broker = await KafkaBroker.start(kafka, program.path('kafka'))
  const at = `-b kafka://${broker.address}`
  const equal = (line: string, wanted: string): Promise<unknown> =>
    checks.check(line.replaceAll(at, '').replaceAll(/ +/g, ' ').trim().slice(0, 110), () => {
      const outcome = program.shell(line)
      assert.equal(outcome.stdout, wanted, outcome.stderr)
      return JSON.stringify(wanted).slice(0, 60)
    })
  try {
    program.ok(`stream topics create t b bad ok line --partitions 3 ${at}`)
    program.ok(`seq 3000 | sed 's/.*/{"n":&}/' | stream produce t --key-json .n ${at}`)
    await equal(
      `stream consume t ${at} -g g --until-end | wc -l; stream groups lag g ${at} --total | cut -f3`,
      '3000\n0\n',
    )
    await equal(
      `stream groups seek g ${at} --to start -y > /dev/null; stream groups lag g ${at} --total | cut -f3`,
      '3000\n',
    )
    await equal(
      `stream groups undo g ${at} -y > /dev/null; stream groups lag g ${at} --total | cut -f3`,
      '0\n',
    )
    await equal(
      `stream pipe --in t --out b ${at} -j p --until-end -- jq -c .; echo $?; stream pipe --in t --out b ${at} -j p --until-end -- jq -c .; stream verify t b ${at} --any-order --ignore key,ts > /dev/null; echo $?`,
      '0\n0\n',
    )
    await equal(
      `stream pipe --in t --out bad ${at} -j q --until-end --retry 0 --on-fail stop -- sh -c 'cat; exit 1'; echo $?; stream cat bad ${at} | wc -l`,
      '9\n0\n',
    )
    await equal(
      `stream pipe --in t --out ok ${at} -j s --until-end --retry 0 -- awk '/"n":997}/ {exit 1} {print}' 2> /dev/null; echo $?; stream dlq show s ${at} | jq -c .n; stream cat ok ${at} | wc -l`,
      '5\n997\n2999\n',
    )
    await equal(
      `stream pipe --in t --out line ${at} -j l --until-end --barrier line -- jq --unbuffered -c .; echo $?; stream cat line ${at} | wc -l`,
      '0\n3000\n',
    )
    for (const [topic, flags] of [
      ['small', '-z none'],
      ['zipped', '-z zstd'],
      ['whole', '--atomic'],
    ] as const) {
      await equal(
        `stream topics create ${topic} ${at} --set max.message.bytes=5000 > /dev/null; seq 100000 | stream produce ${topic} ${flags} ${at}; echo $?; stream cat ${topic} ${at} | cmp - <(seq 100000); echo $?`,
        '0\n0\n',
      )
    }
    await equal(
      `stream txn ${at} -j x -- 'stream consume t -g x | jq -s length | stream produce sums --create'; echo $?; stream cat sums ${at}; stream groups lag x ${at} --total | cut -f3`,
      '0\n3000\n0\n',
    )
    await equal(
      `stream txn ${at} -j y -- 'stream consume t -g y | false | stream produce sums'; echo $?; stream cat sums ${at}`,
      '9\n3000\n',
    )
    await equal(
      `stream consume t ${at} -g mail --until-end --batch 100 --exec '! grep -q "{.n.:997}"' --retry 0 --on-fail bisect 2> /dev/null; echo $?; stream dlq show mail ${at} | jq -c .n; stream groups lag mail ${at} --total | cut -f3`,
      '5\n997\n0\n',
    )
    await equal(
      `seq 5000 > f; stream produce big ${at} --create --resume i --chunk 1000 f; stream produce big ${at} --resume i f; stream cat big ${at} | cmp - f; echo $?`,
      '0\n',
    )
    await equal(
      `seq 5 | stream produce all ${at} --create --atomic; echo $?; stream cat all ${at} | wc -l`,
      '0\n5\n',
    )
  } finally {
    await broker.stop()
  }
}
