package firesteel.shuffle;

/** {@code shuffle_S_M_R} or, batched, {@code shuffle_S_M_R0_R1}: the reduces {@code [first, end)} of one map output. */
record BlockName(String text, int shuffle, long map, int first, int end) {
    /** The parts of a block id, or null when it is not plain shuffle data (merged chunks, broadcast, RDD blocks). */
    static BlockName parse(String text) {
        String[] parts = text.split("_", -1);
        if (!parts[0].equals("shuffle") || parts.length < 4 || parts.length > 5) {
            return null;
        }
        try {
            int first = Integer.parseInt(parts[3]);
            int end = parts.length == 5 ? Integer.parseInt(parts[4]) : Math.addExact(first, 1);
            return new BlockName(text, Integer.parseInt(parts[1]), Long.parseLong(parts[2]), first, end);
        } catch (NumberFormatException | ArithmeticException error) {
            return null; // e.g. shuffle_0_1_0.data, which nobody fetches by this way
        }
    }
}
