package firesteel.shuffle;

/**
 * What an executor tells the driver about a dead node: {@code host-lost SHUFFLE MAP HOST}.
 *
 * <p>A string, because the driver may read messages by a class loader that does not know this jar.
 */
record HostLost(int shuffle, long map, String host) {
    String text() {
        return "host-lost " + shuffle + " " + map + " " + host;
    }

    static HostLost parse(String text) {
        String[] words = text.split(" ");
        if (words.length != 4 || !words[0].equals("host-lost")) {
            throw new IllegalArgumentException("not a message of the firesteel shuffle");
        }
        return new HostLost(Integer.parseInt(words[1]), Long.parseLong(words[2]), words[3]);
    }
}
