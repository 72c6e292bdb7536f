"""The wire: what is written is read again, and no bytes do anything else than give a message or MALFORMED."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from firesteel.rdma_shuffle.wire import authentication, messages, peer_messages
from firesteel.rdma_shuffle.wire.blocks import MAX_REDUCES, FileExtent, Found, Missing, Piece, Range, SlabExtent, Table
from firesteel.rdma_shuffle.wire.codec import MAX_FRAME, MAX_FRAME_UNAUTHENTICATED, Frame, frame
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault
from firesteel.rdma_shuffle.wire.frame_stream import FrameStream
from firesteel.rdma_shuffle.wire.message import Message
from firesteel.rdma_shuffle.wire.messages import Fetch, Ping, Register, decode

U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
NAME = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=40)
BYTES32 = st.binary(min_size=32, max_size=32)
TABLE = st.lists(st.tuples(U64, U32), max_size=20).map(Table.of)
RANGE = st.tuples(U32, U64, st.integers(0, 1000), st.integers(1, 1000)).map(
    lambda each: Range(each[0], each[1], each[2], each[2] + each[3])
)
RANGES = st.lists(RANGE, max_size=8).map(tuple)
REASON = st.sampled_from(Reason)
EXTENT = st.one_of(st.builds(FileExtent, TEXT, U64, U64), st.builds(SlabExtent, U32, U64, U64))
MISSING = st.builds(Missing, REASON, TEXT)
FOUND = st.builds(Found, TABLE, st.lists(EXTENT, max_size=3).map(tuple))
OWNERS = st.lists(TEXT, max_size=4).map(tuple)
PIECE = st.builds(Piece, RANGE, U64, U64)
U24 = st.integers(0, 2**24 - 1)
END = st.builds(
    peer_messages.Endpoint, U24, U24, U16, st.integers(1, 5), st.integers(1, 255), st.binary(min_size=16, max_size=16)
)

CLIENT = st.one_of(
    st.builds(messages.Challenge, U16, BYTES32),
    st.builds(messages.Claim, NAME, BYTES32),
    st.builds(messages.Hello, NAME, TEXT, BYTES32, BYTES32),
    st.builds(
        messages.Welcome,
        BYTES32,
        TEXT,
        U32,
        OWNERS,
        st.lists(st.builds(messages.SlabName, U32, TEXT, U64), max_size=3).map(tuple),
    ),
    st.builds(messages.Register, U32, U64, TEXT, TEXT, TABLE),
    st.builds(messages.Fetch, TEXT, st.integers(1, 600_000), RANGES),
    st.builds(messages.Blocks, U64, st.lists(st.one_of(FOUND, MISSING), max_size=5).map(tuple)),
    st.builds(messages.Release, U64),
    st.builds(messages.Remove, U32, OWNERS),
    st.builds(messages.End, OWNERS),
    st.builds(messages.Ping, OWNERS),
    st.just(messages.Ok()),
    st.builds(messages.Error, REASON, TEXT),
    st.just(messages.Status()),
    st.builds(messages.StatusIs, TEXT),
    st.builds(messages.Notified, st.lists(st.tuples(TEXT, REASON), max_size=4).map(tuple)),
)
PEER = st.one_of(
    st.builds(peer_messages.Greet, U16, BYTES32),
    st.builds(peer_messages.Authenticate, TEXT, TEXT, BYTES32, BYTES32),
    st.builds(peer_messages.Authenticated, TEXT, U32, U64, BYTES32),
    st.builds(peer_messages.Attach, NAME, BYTES32),
    st.builds(peer_messages.Attached, U32),
    st.builds(peer_messages.Locate, U32, RANGES),
    st.builds(
        peer_messages.Located, st.lists(st.one_of(st.builds(Found, TABLE, st.just(())), MISSING), max_size=5).map(tuple)
    ),
    st.builds(peer_messages.Read, U32, st.lists(PIECE, max_size=5).map(tuple)),
    st.builds(peer_messages.Data, U64),
    st.builds(peer_messages.Renew, U32),
    st.builds(peer_messages.Forget, U32, U32),
    st.builds(peer_messages.Ended, U32),
    st.builds(peer_messages.Connect, U32, END),
    st.builds(peer_messages.Connected, U32, U64, END),
    st.builds(peer_messages.Stage, U32, st.lists(PIECE, max_size=8).map(tuple)),
    st.builds(peer_messages.Staged, U32, U64, U32),
    st.builds(peer_messages.Unstage, U32, U32),
    st.builds(peer_messages.Disconnect, U32),
)


@settings(deadline=None)
@given(CLIENT)
def test_client_messages_are_read_as_they_were_written(message: Message) -> None:
    assert messages.decode(message.kind, message.body()) == message


@settings(deadline=None)
@given(PEER)
def test_peer_messages_are_read_as_they_were_written(message: Message) -> None:
    assert messages.decode(message.kind, message.body(), peer_messages.PEER) == message


@pytest.mark.parametrize("table", [messages.CLIENT, peer_messages.PEER], ids=["client", "peer"])
@settings(deadline=None)
@given(data=st.data())
def test_any_bytes_are_a_message_or_malformed(table: dict[int, Any], data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([*table, 0, 99, 255]))
    body = data.draw(st.binary(max_size=300))
    try:
        message = messages.decode(kind, body, table)
    except ShuffleFault as fault:
        assert fault.reason is Reason.MALFORMED
    else:
        assert messages.decode(kind, message.body(), table) == message


@settings(deadline=None)
@given(st.one_of(CLIENT, PEER), st.data())
def test_a_message_that_was_cut_or_lengthened_is_malformed(message: Message, data: st.DataObject) -> None:
    table = messages.CLIENT if message.kind < 32 else peer_messages.PEER
    body = message.body()
    if isinstance(message, messages.StatusIs):
        return  # its text goes to the end of the frame, wherever that is
    if body:
        with pytest.raises(ShuffleFault, match="FS9108"):
            messages.decode(message.kind, body[: data.draw(st.integers(0, len(body) - 1))], table)
    with pytest.raises(ShuffleFault, match="FS9108"):
        messages.decode(message.kind, body + b"\0", table)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        pytest.param(7, bytes(8) + b"\xff" * 4, id="four milliards of blocks"),
        pytest.param(7, bytes(8) + struct.pack(">IBI", 1, 0, 0xFFFFFFFF), id="a block of four milliards of reduces"),
        pytest.param(6, struct.pack(">HII", 0, 1, 0xFFFFFFFF), id="a FETCH of four milliards of ranges"),
        pytest.param(5, struct.pack(">IQHHI", 0, 0, 0, 0, 0xFFFFFFFF), id="a REGISTER of four milliards of blocks"),
        pytest.param(9, struct.pack(">IH", 0, 0xFFFF), id="65,535 owners"),
    ],
)
def test_a_count_that_cannot_be_true_is_refused_before_anything_is_made(kind: int, body: bytes) -> None:
    with pytest.raises(ShuffleFault, match=r"more than the body can hold"):
        messages.decode(kind, body)


def test_a_fetch_whose_answer_would_not_fit_a_frame_is_refused() -> None:
    wide = Range(0, 0, 0, MAX_REDUCES)
    with pytest.raises(ShuffleFault, match="a request is for more than"):
        messages.decode(6, messages.Fetch("n", 1, (wide,)).body())
    with pytest.raises(ShuffleFault, match="more than the body can hold"):
        messages.decode(6, messages.Fetch("n", 1, (Range(0, 0, 0, 1),) * 32_769).body())


def test_the_largest_answer_that_can_be_asked_for_fits_a_frame() -> None:
    path = "/" + "p" * 200
    blocks = [Found(Table(bytes(12 * 16)), (FileExtent(path, 0, 1),))] * 32_768
    assert len(frame(7, 1, messages.Blocks(1, tuple(blocks)).body())) <= MAX_FRAME


@pytest.mark.parametrize(("first", "end"), [(0, 0), (5, 5), (6, 5), (0, MAX_REDUCES + 1)])
def test_a_range_without_reduces_is_malformed(first: int, end: int) -> None:
    with pytest.raises(ShuffleFault, match="are not a range"):
        messages.decode(6, messages.Fetch("n", 1, (Range(0, 0, first, end),)).body())


def test_the_secret_is_not_in_what_a_claim_prints() -> None:
    assert "secret" not in repr(messages.Claim("app", b"s3cr3t-s3cr3t"))


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.fault: ShuffleFault | None = None
        self.landings = 0
        self.on_frame: Any = lambda _frame: None

    def connected(self, stream: FrameStream) -> None: ...

    def frame(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.on_frame(frame)

    def landed(self) -> None:
        self.landings += 1

    def broke(self, fault: ShuffleFault) -> None:
        self.fault = fault

    def lost(self, error: Exception | None) -> None: ...


def feed(stream: FrameStream, data: bytes, step: int = 1 << 20) -> int:
    """As asyncio does; returns the largest buffer it was given."""
    largest = 0
    for at in range(0, len(data), step):
        piece = memoryview(data)[at : at + step]
        while piece:
            buffer = stream.get_buffer(-1)
            largest = max(largest, len(buffer))
            count = min(len(buffer), len(piece))
            assert count
            buffer[:count] = piece[:count]
            buffer.release()
            stream.buffer_updated(count)
            piece = piece[count:]
    return largest


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), U32, st.binary(max_size=200)), max_size=8), st.integers(1, 64))
@example([(1, 2, b"x" * 4000)], 1)
def test_frames_are_cut_alike_however_the_bytes_arrive(frames: list[tuple[int, int, bytes]], step: int) -> None:
    heard = Heard()
    feed(FrameStream(heard), b"".join(frame(*each) for each in frames), step)
    assert [tuple(each) for each in heard.frames] == frames


@settings(deadline=None)
@given(st.binary(max_size=2000), st.integers(1, 500))
def test_any_stream_of_bytes_is_frames_or_malformed(data: bytes, step: int) -> None:
    heard = Heard()
    stream = FrameStream(heard)
    for at in range(0, len(data), step):
        if heard.fault:
            assert heard.fault.reason is Reason.MALFORMED
            return
        feed(stream, data[at : at + step])


@pytest.mark.parametrize("length", [0, 4, MAX_FRAME_UNAUTHENTICATED + 1, MAX_FRAME, 0xFFFFFFFF])
def test_a_length_over_the_limit_ends_the_connection_and_takes_no_memory(length: int) -> None:
    heard = Heard()
    largest = feed(FrameStream(heard), struct.pack(">I", length) + bytes(60))
    assert heard.fault
    assert heard.fault.reason is Reason.MALFORMED
    assert largest <= 1 << 16


def test_a_long_frame_takes_memory_as_it_arrives_and_not_as_it_claims() -> None:
    heard = Heard()
    stream = FrameStream(heard)
    stream.limit = MAX_FRAME
    assert feed(stream, struct.pack(">I", MAX_FRAME) + bytes(100_000)) <= 1 << 18
    feed(stream, bytes(MAX_FRAME - 100_000))
    assert [len(each.body) for each in heard.frames] == [MAX_FRAME - 5]


@settings(deadline=None)
@given(st.integers(0, 70_000), st.integers(50, 5000))
def test_bytes_behind_a_data_frame_land_in_the_view_and_frames_go_on_after_them(size: int, step: int) -> None:
    heard = Heard()
    stream = FrameStream(heard)
    target = bytearray(size)
    heard.on_frame = lambda each: stream.land(memoryview(target), size) if each.kind == 40 else None
    payload = bytes(range(251)) * (size // 251 + 1)
    feed(stream, frame(40, 1, b"") + payload[:size] + frame(12, 2, b"after"), step)
    assert target == payload[:size]
    assert heard.landings == 1
    assert heard.frames[-1] == (12, 2, b"after")


def test_after_discard_nothing_is_written_into_the_view_and_the_frames_go_on() -> None:
    heard = Heard()
    stream = FrameStream(heard)
    target = bytearray(1000)
    heard.on_frame = lambda each: stream.land(memoryview(target), 1000) if each.kind == 40 else None
    feed(stream, frame(40, 1, b"") + b"a" * 400)
    stream.discard()
    feed(stream, b"b" * 600 + frame(12, 2, b""))
    assert bytes(target) == b"a" * 400 + bytes(600)
    assert heard.frames[-1].kind == 12


def seals() -> tuple[authentication.Seal, authentication.Seal]:
    parts = (b"k" * 32, b"b" * 32, b"a" * 32)
    return authentication.Seal(*parts, dialled=True), authentication.Seal(*parts, dialled=False)


@pytest.mark.parametrize("attack", ["repeat", "leave out", "reflect", "change body", "change number", "change kind"])
def test_a_sealed_frame_that_was_tampered_with_ends_the_connection(attack: str) -> None:
    ours, theirs = seals()
    first, second = (frame(37, n, b"body", ours.tag(37, n, b"body")) for n in (1, 2))
    heard = Heard()
    stream = FrameStream(heard)
    stream.seal = theirs
    sent = {
        "repeat": first + first,
        "leave out": second,
        "reflect": frame(37, 1, b"body", seals()[1].tag(37, 1, b"body")),
        "change body": first.replace(b"body", b"bodi"),
        "change number": first[:8] + b"\x07" + first[9:],
        "change kind": first[:4] + b"\x27" + first[5:],
    }[attack]
    feed(stream, sent)
    assert heard.fault
    assert heard.fault.reason is Reason.REFUSED
    assert len(heard.frames) == (attack == "repeat")


def test_sealed_frames_in_their_order_are_taken() -> None:
    ours, theirs = seals()
    heard = Heard()
    stream = FrameStream(heard)
    stream.seal = theirs
    feed(stream, b"".join(frame(37, n, b"body", ours.tag(37, n, b"body")) for n in range(5)))
    assert [each.request for each in heard.frames] == list(range(5))


def test_faults_survive_pickling() -> None:
    import pickle

    again = pickle.loads(pickle.dumps(ShuffleFault(Reason.NO_SPACE, "full")))
    assert (again.reason, again.detail, again.code) == (Reason.NO_SPACE, "full", "FS9105")


def test_a_detail_that_is_too_long_is_cut_and_stays_text() -> None:
    long = messages.Error(Reason.CORRUPT, "ä" * 5000)
    read = messages.decode(13, long.body())
    assert isinstance(read, messages.Error)
    assert read == replace(long, detail="ä" * 512)


@pytest.mark.parametrize("value", ["\0", "/folder/app\0/data", "host\0"])
def test_a_string_with_nul_is_malformed(value: str) -> None:
    """The operating system ends a path or a host name at NUL; Python raises ValueError."""
    for message in (Register(0, 1, value, "", Table.of([(1, 1)])), Fetch(value, 1, ()), Ping((value,))):
        with pytest.raises(ShuffleFault, match="NUL") as caught:
            decode(message.kind, message.body())
        assert caught.value.reason is Reason.MALFORMED
