package firesteel.shuffle.wire;

/** {@code shuffle_S_M_R} or, batched, {@code shuffle_S_M_R0_R1}: the reduces {@code [first, end)} of one map output. */
public record BlockName(String text, int shuffle, long map, int first, int end) {
    /** The parsed block id, or null if it is not a plain shuffle block (merged chunk, broadcast, RDD block). */
    public static BlockName parse(String text) {
        String[] parts = text.split("_", -1);
        if (!parts[0].equals("shuffle") || parts.length < 4 || parts.length > 5) {
            return null;
        }
        try {
            int first = Integer.parseInt(parts[3]);
            int end = parts.length == 5 ? Integer.parseInt(parts[4]) : Math.addExact(first, 1);
            return new BlockName(text, Integer.parseInt(parts[1]), Long.parseLong(parts[2]), first, end);
        } catch (NumberFormatException | ArithmeticException error) {
            return null; // e.g. shuffle_0_1_0.data, which is never fetched by this client
        }
    }
}
