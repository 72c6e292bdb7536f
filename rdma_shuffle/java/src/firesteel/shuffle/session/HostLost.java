package firesteel.shuffle.session;

/**
 * The message of an executor to the driver about a dead node: {@code host-lost SHUFFLE MAP HOST}.
 *
 * <p>A string, because the class loader that reads messages on the driver may not know this jar.
 */
public record HostLost(int shuffle, long map, String host) {
    String text() {
        return "host-lost " + shuffle + " " + map + " " + host;
    }

    public static HostLost parse(String text) {
        String[] fields = text.split(" ");
        if (fields.length != 4 || !fields[0].equals("host-lost")) {
            throw new IllegalArgumentException("the message is not a host-lost report of the firesteel shuffle");
        }
        return new HostLost(Integer.parseInt(fields[1]), Long.parseLong(fields[2]), fields[3]);
    }
}
