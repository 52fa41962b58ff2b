"""Members of one consumer group (KIP-848) in threads, as an application of librdkafka has them.

librdkafka.py ADDRESS GROUP TOPIC MEMBERS COUNT: the members come one after the other, go one after the other, and read
until COUNT values were seen. Prints JSON: the values and the events of each member in order.
"""

import json
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException

address, group, topic = sys.argv[1:4]
members, count = int(sys.argv[4]), int(sys.argv[5])
values = []
events = []
owners = {}
twice = []
lock = threading.Lock()
deadline = time.time() + 60


def read(index):
    config = {
        "bootstrap.servers": address,
        "group.id": group,
        "group.protocol": "consumer",
        "auto.offset.reset": "earliest",
        "client.id": f"member-{index}",
    }
    consumer = Consumer(config)

    def assigned(_, partitions):
        with lock:
            for each in partitions:
                if each.partition in owners:
                    twice.append([each.partition, owners[each.partition], index])
                owners[each.partition] = index
            events.append([index, "assigned", sorted(each.partition for each in partitions)])
        consumer.incremental_assign(partitions)

    def revoked(_, partitions):
        with lock:
            for each in partitions:
                owners.pop(each.partition, None)
            events.append([index, "revoked", sorted(each.partition for each in partitions)])
        consumer.incremental_unassign(partitions)

    consumer.subscribe([topic], on_assign=assigned, on_revoke=revoked)
    joined = time.time()
    while time.time() < deadline:
        with lock:
            is_done = len(set(values)) >= count
        if is_done and time.time() - joined > 4 * (members - index):
            break
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        with lock:
            values.append(message.value().decode())
    consumer.close()


threads = []
for index in range(members):
    thread = threading.Thread(target=read, args=(index,))
    thread.start()
    threads.append(thread)
    time.sleep(2)
for thread in threads:
    thread.join()
print(json.dumps({"values": values, "events": events, "twice": twice}))
