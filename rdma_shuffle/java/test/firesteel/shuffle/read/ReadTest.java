package firesteel.shuffle.read;

import static firesteel.shuffle.Checks.check;
import static firesteel.shuffle.Checks.equal;
import static firesteel.shuffle.Checks.throwsIo;

import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;

final class ReadTest {
    private ReadTest() {}

    static void breakerOpensAfterFailuresInARowAndTriesOneAgain() {
        AtomicLong now = new AtomicLong();
        CircuitBreaker breaker = new CircuitBreaker(2, 100, now::get);
        breaker.failed("a");
        breaker.succeeded("a");
        breaker.failed("a");
        check(breaker.allows("a"), "one failure in a row");
        breaker.failed("a");
        check(!breaker.allows("a"), "two in a row");
        check(breaker.allows("b"), "another peer");
        now.set(100);
        check(breaker.allows("a"), "the probe");
        check(!breaker.allows("a"), "one probe only");
        breaker.failed("a");
        now.set(199);
        check(!breaker.allows("a"), "the probe failed");
        now.set(200);
        check(breaker.allows("a"), "the next probe");
        now.set(300);
        check(breaker.allows("a"), "a probe that never reported");
        breaker.succeeded("a");
        check(breaker.allows("a") && breaker.allows("a"), "closed");
    }

    static void slabBuffersEndWithTheirLastUser() throws IOException {
        AtomicInteger given = new AtomicInteger();
        Lease lease = new Lease(given::incrementAndGet);
        ByteBuffer memory = ByteBuffer.wrap("abcdefgh".getBytes(StandardCharsets.US_ASCII));
        SlabBuffer one = new SlabBuffer(new ByteBuffer[] {memory.slice(0, 3), memory.slice(3, 0), memory.slice(3, 2)}, lease.use());
        SlabBuffer two = new SlabBuffer(new ByteBuffer[] {memory.slice(5, 3)}, lease.use());
        lease.done();
        equal(one.size(), 5L);
        InputStream stream = one.createInputStream();
        equal(new String(stream.readNBytes(2)), "ab");
        equal(stream.skip(2), 2L);
        equal((char) stream.read(), 'e');
        equal(stream.read(), -1);
        equal(one.nioByteBuffer().remaining(), 5);
        one.retain();
        one.release();
        equal(new String(one.createInputStream().readAllBytes()), "abcde");
        one.release();
        throwsIo(one::createInputStream);
        throwsIo(() -> stream.read());
        equal(given.get(), 0);
        two.release();
        equal(given.get(), 1);
        try {
            two.release();
            throw new AssertionError("a second release");
        } catch (IllegalStateException expected) {
            equal(given.get(), 1);
        }
    }

    static void fileBuffersOutliveTheirFilesName() throws IOException {
        Path file = Files.createTempFile("blocks", null);
        Files.writeString(file, "0123456789");
        FileBuffer buffer = new FileBuffer(FileChannel.open(file, StandardOpenOption.READ), 2, 5);
        Files.delete(file);
        equal(new String(buffer.createInputStream().readAllBytes()), "23456");
        InputStream open = buffer.createInputStream();
        buffer.release();
        throwsIo(() -> open.read());
        throwsIo(buffer::createInputStream);
    }

    static void shortFilesAreAnError() throws IOException {
        Path file = Files.createTempFile("blocks", null);
        Files.writeString(file, "0123");
        FileBuffer buffer = new FileBuffer(FileChannel.open(file, StandardOpenOption.READ), 2, 5);
        throwsIo(() -> buffer.createInputStream().readAllBytes());
        buffer.release();
        Files.delete(file);
    }
}
