package firesteel.shuffle.write;

import org.apache.spark.SparkConf;
import org.apache.spark.io.CompressionCodec$;

/**
 * The checksums that Spark's writers compute while they write (SPARK-35275). With them the file is not read again.
 *
 * <p>They match the file unless a merge of spills rewrites the bytes: it decrypts them, or decompresses them if the
 * compressed streams cannot be concatenated (UnsafeShuffleWriter.mergeSpills).
 */
public final class WrittenChecksums {
    public static final String ALGORITHM_KEY = "spark.shuffle.checksum.algorithm";
    public static final String ALGORITHM = "CRC32C";

    private static final CompressionCodec$ CODECS = CompressionCodec$.MODULE$;

    private WrittenChecksums() {}

    static boolean coverTheFile(SparkConf conf) {
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
