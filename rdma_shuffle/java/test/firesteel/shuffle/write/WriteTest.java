package firesteel.shuffle.write;

import static firesteel.shuffle.Checks.check;

import java.util.Arrays;
import java.util.zip.CRC32C;

import org.apache.spark.SparkConf;

final class WriteTest {
    private WriteTest() {}

    static void checksumsOfWritersAreTakenWhereTheyAreOfTheFile() {
        check(Arrays.equals(WrittenChecksums.of(new long[] {0xFFFFFFFFL, 0, 7}), new int[] {-1, 0, 7}), "unsigned");
        check(WrittenChecksums.coverTheFile(crc32c()), "by default");
        check(WrittenChecksums.coverTheFile(crc32c().set("spark.io.compression.codec", "zstd")), "zstd");
        check(!WrittenChecksums.coverTheFile(new SparkConf(false)), "Spark's default is ADLER32");
        check(!WrittenChecksums.coverTheFile(crc32c().set("spark.shuffle.checksum.enabled", "false")), "none are made");
        check(!WrittenChecksums.coverTheFile(crc32c().set("spark.io.encryption.enabled", "true")), "merges encrypt again");
        check(!WrittenChecksums.coverTheFile(crc32c().set("spark.shuffle.unsafe.fastMergeEnabled", "false")), "compress again");
    }

    private static SparkConf crc32c() {
        return new SparkConf(false).set("spark.shuffle.checksum.algorithm", "CRC32C");
    }
}
