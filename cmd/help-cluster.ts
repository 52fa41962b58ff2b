/**
 * `stream help cluster`: the runbook. Lines behind a `$` are run as they stand there, one after the other, by
 * test/process/runbook.test.ts; a name before it is the host that a line is for.
 */

export const clusterText = `A cluster is several daemons, each with a number, a data directory and an
address of its own, and an etcd that keeps who has what. Any daemon may die: a
topic of three replicas goes on with two, and nothing acknowledged is lost.
To try it on one machine: stream cluster demo.

Below h1 to h4 are hosts with a daemon each. A line behind h1$ is typed on that
host, with the first variable alone: there stream daemon means the daemon of the
host. A line behind $ is typed anywhere, with both.

  ETCD=http://h1:2379,http://h2:2379,http://h3:2379
  export STREAM_BROKER=tcp://h1:9393,h2:9393,h3:9393

From one daemon to three

  The data of the daemon that is there become the first broker's. Its topics
  then get replicas, and the leads are spread; min.insync.replicas is 2 from
  there on.

  h1$ stream daemon stop
  h1$ stream cluster adopt --etcd $ETCD -y
  h1$ stream daemon start --etcd $ETCD --node-id 1 --listen tcp://h1:9393
  h2$ stream daemon start --etcd $ETCD --node-id 2 --listen tcp://h2:9393
  h3$ stream daemon start --etcd $ETCD --node-id 3 --listen tcp://h3:9393
  $ stream cluster reassign --topics '*' --replicas 3 -y --wait
  $ stream cluster reassign --topics '__*' --replicas 3 -y --wait
  $ stream cluster reassign --topics '*' --topics '__*' -y --wait
  $ stream cluster elect
  $ stream cluster status

Adding a daemon

  It has nothing until partitions are moved to it. The last two lines spread
  them and their leads evenly again; --rate 20MiB/s spares the network,
  --dry-run only shows it.

  h4$ stream daemon start --etcd $ETCD --node-id 4 --listen tcp://h4:9393
  $ stream cluster brokers
  $ stream cluster reassign --topics '*' --topics '__*' -y --wait
  $ stream cluster elect

Restarting one, for an update

  Its leads go to others first, so that clients meet no failed request. The
  last line gives them back, once the daemon has caught up.

  $ stream cluster drain 3 --leaders-only -y --wait
  h3$ stream daemon stop
  h3$ stream daemon start --etcd $ETCD --node-id 3 --listen tcp://h3:9393
  $ stream topics wait '*' '__*' --in-sync --timeout 1h
  $ stream cluster drain 3 --undo -y --wait

Taking one away

  Its replicas move to the others, then it is stopped and forgotten.

  $ stream cluster drain 4 -y --wait
  h4$ stream daemon stop
  $ stream cluster forget 4 -y

Replacing a disk, or a machine

  The daemon is started with its number and an empty data directory; it copies
  everything from the others, and counts for nothing until it has it. Where
  the old disk can still be read, do not copy it by hand: what it lacks would
  count as there. If it must be, start the daemon with --restored.

  h3$ stream daemon stop
  h3$ rm -rf ~/.local/share/stream
  h3$ stream daemon start --etcd $ETCD --node-id 3 --listen tcp://h3:9393
  $ stream topics wait '*' '__*' --in-sync --timeout 1d

  A machine that does not come back is drained while it is down, as above
  under "Taking one away", without the line for its host; then its number is
  free for another.

Losing etcd

  While it is away the daemons serve on: records are produced and read as long
  as no daemon fails. No topic can be made, no lead can move. When it is back
  they go on by themselves; nothing has to be typed. check cluster warns of it
  at once, and is critical when the sessions of the daemons have run out (10 s):
  then none of them knows which others live.

  $ stream cat orders | tail -n 1
  $ stream check cluster

  A member of etcd that is lost is replaced with etcd's own commands: etcdctl
  member remove, etcdctl member add. If all are lost, etcd is restored from a
  snapshot (etcdctl snapshot save, made daily) with

      etcdutl snapshot restore FILE --bump-revision 1000000000 --mark-compacted

  and never without --bump-revision: a store that seems older than what the
  daemons have seen is refused by them.

Changing the password for etcd

  The daemons read the file of stream.etcd.password.file with each login, and
  need no restart: write the new password into it on every host, then change it
  in etcd (etcdctl user passwd). The other way round there are the 10 s of a
  session to do it in; then the daemons count as dead until the file is right. A
  daemon that has the password from STREAM_ETCD_PASSWORD has to be restarted.`
