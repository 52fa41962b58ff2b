import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Kafka's own client, for test/witness/run.ts.
 *
 *     fill ADDRESS TOPIC           records of every shape in every codec; partitions 0 and 1
 *     transactions ADDRESS TOPIC   committed and aborted transactions, in turn, with plain records between them
 *     open ADDRESS TOPIC FILE      a transaction that stays open until FILE is there; prints `open`, then `committed`
 *     read ADDRESS TOPIC ISOLATION prints all records up to the end: partition, offset, timestamp, key, value, headers
 *
 * Keys, values and headers are base64, `-` for null; headers are name=value, joined by commas.
 */
public class Witness {
    static final String[] CODECS = {"none", "gzip", "snappy", "lz4", "zstd"};
    static final long TIME_MS = System.currentTimeMillis() - 1_000_000;

    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "fill" -> fill(arguments[1], arguments[2]);
            case "transactions" -> transactions(arguments[1], arguments[2]);
            case "open" -> open(arguments[1], arguments[2], arguments[3]);
            case "read" -> read(arguments[1], arguments[2], arguments[3]);
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    static KafkaProducer<byte[], byte[]> producer(String address, Map<String, String> more) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", address);
        properties.put("acks", "all");
        properties.putAll(more);
        return new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static void fill(String address, String topic) throws Exception {
        long timestamp = TIME_MS;
        for (String codec : CODECS) {
            try (var producer = producer(address, Map.of("compression.type", codec, "batch.size", "4000", "linger.ms", "20"))) {
                for (int number = 0; number < 400; number++) {
                    // Times go back now and then, so that the largest of a batch is not its last.
                    timestamp += number % 10 == 0 ? -7 : 3;
                    byte[] key = number % 4 == 0 ? null : number % 4 == 1 ? new byte[0] : ("key " + number % 50).getBytes("UTF-8");
                    byte[] value = number % 7 == 0 ? null : number % 7 == 1 ? new byte[0] : value(codec, number);
                    RecordHeaders headers = new RecordHeaders();
                    if (number % 3 == 0) headers.add("codec", codec.getBytes("UTF-8"));
                    if (number % 6 == 0) headers.add("codec", null).add("größe", new byte[] {0, -1, (byte) 200});
                    producer.send(new ProducerRecord<>(topic, number % 2, timestamp, key, value, headers));
                }
            }
        }
    }

    static byte[] value(String codec, int number) throws Exception {
        if (number % 7 == 2) return new byte[] {0, 10, 13, -1, -128, (byte) number};
        return ("a value in " + codec + ", number " + number + " " + "of many ".repeat(number % 40)).getBytes("UTF-8");
    }

    static void transactions(String address, String topic) throws Exception {
        for (int round = 0; round < 6; round++) {
            String codec = CODECS[round % CODECS.length];
            var settings = Map.of("transactional.id", "witness-" + round, "compression.type", codec, "batch.size", "500", "linger.ms", "5");
            try (var producer = producer(address, settings)) {
                producer.initTransactions();
                producer.beginTransaction();
                for (int number = 0; number < 30; number++) {
                    String text = (round % 2 == 0 ? "committed " : "aborted ") + round + " " + number;
                    producer.send(new ProducerRecord<>(topic, number % 2, ("k" + number).getBytes(), text.getBytes()));
                }
                producer.flush();
                if (round % 2 == 0) producer.commitTransaction();
                else producer.abortTransaction();
            }
            try (var producer = producer(address, Map.of("compression.type", codec))) {
                producer.send(new ProducerRecord<>(topic, round % 2, null, ("plain " + round).getBytes()));
            }
        }
    }

    static void open(String address, String topic, String file) throws Exception {
        try (var producer = producer(address, Map.of("transactional.id", "witness-open", "compression.type", "lz4"))) {
            producer.initTransactions();
            producer.beginTransaction();
            for (int number = 0; number < 20; number++) producer.send(new ProducerRecord<>(topic, 0, null, ("open " + number).getBytes()));
            producer.flush();
            System.out.println("open");
            for (int tenth = 0; tenth < 600 && !java.nio.file.Files.exists(java.nio.file.Path.of(file)); tenth++) Thread.sleep(100);
            producer.commitTransaction();
            System.out.println("committed");
        }
    }

    static void read(String address, String topic, String isolation) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", address);
        properties.put("isolation.level", isolation);
        StringBuilder out = new StringBuilder();
        try (var consumer = new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions = new ArrayList<>();
            consumer.partitionsFor(topic).forEach(each -> partitions.add(new TopicPartition(topic, each.partition())));
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            long deadline = System.nanoTime() + 30_000_000_000L;
            while (partitions.stream().anyMatch(each -> consumer.position(each) < ends.get(each))) {
                if (System.nanoTime() > deadline) throw new IllegalStateException("the end is not reached");
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) print(record, out);
            }
        }
        System.out.print(out);
    }

    static void print(ConsumerRecord<byte[], byte[]> record, StringBuilder out) {
        List<String> headers = new ArrayList<>();
        for (Header header : record.headers()) headers.add(text(header.key().getBytes(java.nio.charset.StandardCharsets.UTF_8)) + "=" + text(header.value()));
        out.append(record.partition()).append('\t').append(record.offset()).append('\t').append(record.timestamp()).append('\t')
            .append(text(record.key())).append('\t').append(text(record.value())).append('\t').append(String.join(",", headers)).append('\n');
    }

    static String text(byte[] bytes) {
        return bytes == null ? "-" : Base64.getEncoder().encodeToString(bytes);
    }
}
