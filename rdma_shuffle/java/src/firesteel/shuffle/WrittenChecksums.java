package firesteel.shuffle;

import org.apache.spark.SparkConf;
import org.apache.spark.io.CompressionCodec$;

/**
 * The checksums that Spark's writers make of what they write (SPARK-35275): whoever has them need not read the file again.
 *
 * <p>They are of the file's bytes unless a merge of spills writes other bytes than the spills had: it decrypts them, or
 * decompresses them where they cannot be joined as they are (UnsafeShuffleWriter.mergeSpills).
 */
final class WrittenChecksums {
    static final String ALGORITHM_KEY = "spark.shuffle.checksum.algorithm";
    static final String ALGORITHM = "CRC32C";

    private static final CompressionCodec$ CODECS = CompressionCodec$.MODULE$;

    private WrittenChecksums() {}

    static boolean areOfTheFile(SparkConf conf) {
        return conf.getBoolean("spark.shuffle.checksum.enabled", true)
                && conf.get(ALGORITHM_KEY, "").equalsIgnoreCase(ALGORITHM)
                && !conf.getBoolean("spark.io.encryption.enabled", false)
                && conf.getBoolean("spark.shuffle.unsafe.fastMergeEnabled", true)
                && (!conf.getBoolean("spark.shuffle.compress", true)
                        || CODECS.supportsConcatenationOfSerializedStreams(CODECS.createCodec(conf)));
    }

    static int[] of(long[] checksums) {
        int[] crcs = new int[checksums.length];
        for (int block = 0; block < crcs.length; block++) {
            crcs[block] = (int) checksums[block];
        }
        return crcs;
    }
}
