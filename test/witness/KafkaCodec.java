import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.ObjectSerializationCache;

/**
 * Reads message bodies with Kafka's own classes and writes them again. Input, one a line: "key version request|response
 * hex". Prints one line for each body that Kafka refuses, does not read to its end, or writes otherwise.
 */
public class KafkaCodec {
    public static void main(String[] arguments) throws Exception {
        for (String line : Files.readAllLines(Path.of(arguments[0]))) {
            String[] parts = line.split(" ", -1);
            short version = Short.parseShort(parts[1]);
            ApiMessageType type = ApiMessageType.fromApiKey(Short.parseShort(parts[0]));
            ApiMessage message = parts[2].equals("request") ? type.newRequest() : type.newResponse();
            ByteBuffer bytes = ByteBuffer.wrap(HexFormat.of().parseHex(parts[3]));
            try {
                message.read(new ByteBufferAccessor(bytes), version);
                ObjectSerializationCache cache = new ObjectSerializationCache();
                ByteBuffer written = ByteBuffer.allocate(message.size(cache, version));
                message.write(new ByteBufferAccessor(written), cache, version);
                String hex = HexFormat.of().formatHex(written.array());
                if (bytes.hasRemaining() || !hex.equals(parts[3])) {
                    System.out.println(line + "\n  Kafka: " + message + "\n  writes " + hex);
                }
            } catch (RuntimeException error) {
                System.out.println(line + "\n  Kafka refuses it: " + error);
            }
        }
    }
}
