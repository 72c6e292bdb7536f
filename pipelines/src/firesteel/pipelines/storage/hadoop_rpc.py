"""Hadoop RPC: a connection to a NameNode, and the messages that listing needs.

::

    connection   "hrpc" | version 9 | service class 0 | auth 0 (simple)      then a call with id -3: user and protocol
    call         length (4 bytes, big endian) | RequestHeader | Method | the method's request
    answer       length (4 bytes, big endian) | ResponseHeader | the method's response, if the status is SUCCESS

Every message is protobuf after its length as a varint. Only the fields that are used here are declared; protobuf skips the
others. Names and numbers are those of Hadoop's RpcHeader.proto, IpcConnectionContext.proto, ProtobufRpcEngine2.proto,
hdfs.proto and ClientNamenodeProtocol.proto, which are the same from Hadoop 2 to 3.5.
"""

from __future__ import annotations

import functools
import os
import socket
import struct
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Self

PROTOCOL = "org.apache.hadoop.hdfs.protocol.ClientProtocol"
DIRECTORY = 1
"""`file_type` of a directory."""

MAX_ANSWER_BYTES = 128 << 20
"""Default of ipc.maximum.response.length. A longer answer is not one of a NameNode."""

_HELLO = b"hrpc\x09\x00\x00"
_PROTOBUF, _FINAL, _CONTEXT_CALL, _SUCCESS = 2, 0, -3, 0

_MESSAGES: Mapping[str, Sequence[tuple[str, int, str]]] = {
    "UserInformation": [("effective_user", 1, "string")],
    "ConnectionContext": [("user_info", 2, "UserInformation"), ("protocol", 3, "string")],
    "RequestHeader": [
        ("rpc_kind", 1, "int32"),
        ("rpc_op", 2, "int32"),
        ("call_id", 3, "sint32"),
        ("client_id", 4, "bytes"),
        ("retry_count", 5, "sint32"),
    ],
    "Method": [("name", 1, "string"), ("protocol", 2, "string"), ("version", 3, "uint64")],
    "ResponseHeader": [
        ("call_id", 1, "uint32"),
        ("status", 2, "int32"),
        ("server_version", 3, "uint32"),
        ("exception", 4, "string"),
        ("message", 5, "string"),
    ],
    "BatchedListingRequest": [("paths", 1, "*string"), ("start_after", 2, "bytes"), ("need_location", 3, "bool")],
    "FileStatus": [
        ("file_type", 1, "int32"),
        ("name", 2, "bytes"),
        ("length", 3, "uint64"),
        ("modified_ms", 7, "uint64"),
    ],
    "RemoteException": [("exception", 1, "string"), ("message", 2, "string")],
    "Listing": [("entries", 1, "*FileStatus"), ("parent", 2, "uint32"), ("failure", 3, "RemoteException")],
    "BatchedListingResponse": [("listings", 1, "*Listing"), ("has_more", 2, "bool"), ("start_after", 3, "bytes")],
}
"""Message -> (field, number, type); `*` is repeated."""

_SCALARS = ("string", "bytes", "bool", "int32", "sint32", "uint32", "uint64")


class RpcFailure(Exception):
    """A call failed on the NameNode: the class name of the Java exception, and its message."""

    def __init__(self, exception: str, message: str) -> None:
        super().__init__(f"{exception.rpartition('.')[2]}: {message.partition(chr(10))[0]}".rstrip(": "))
        self.exception = exception.rpartition(".")[2]


class BrokenConnection(OSError):
    """The peer closed the connection, or its data is not Hadoop RPC."""


class Connection:
    """A connection for one thread at a time. After an OSError from `call` it cannot be used again."""

    def __init__(self, host: str, port: int, user: str, timeouts_s: tuple[float, float]) -> None:
        connect_s, read_s = timeouts_s
        self.pid = os.getpid()
        self._client_id = uuid.uuid4().bytes
        self._calls = 0
        self._socket = socket.create_connection((host, port), timeout=connect_s)
        try:
            self._socket.settimeout(read_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._answers = self._socket.makefile("rb")
            context = message(
                "ConnectionContext", protocol=PROTOCOL, user_info=message("UserInformation", effective_user=user)
            )
            self._send(_HELLO, self._header(_CONTEXT_CALL), context)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: str, request: Any, response: str) -> Any:
        """Call `method`, and return the answer as a `response` message.

        Raises
        ------
        RpcFailure
            The NameNode answered with an exception. The connection can be used again.
        OSError
            There is no valid answer.
        """
        number = self._calls
        self._calls += 1
        self._send(b"", self._header(number), message("Method", name=method, protocol=PROTOCOL, version=1), request)
        (length,) = struct.unpack(">I", self._read(4))
        if length > MAX_ANSWER_BYTES:
            raise BrokenConnection(f"the answer has {length:,} bytes, so it is not Hadoop RPC")
        answer = self._read(length)
        header, rest = _first(answer, "ResponseHeader")
        if header.status != _SUCCESS:
            raise RpcFailure(header.exception, header.message)
        if header.call_id != number:
            raise BrokenConnection(f"the answer is to call {header.call_id}, expected {number}")
        return _first(rest, response)[0]

    def close(self) -> None:
        """Close the connection. May be called twice."""
        self._answers.close()
        self._socket.close()

    def _header(self, call_id: int) -> Any:
        return message(
            "RequestHeader",
            rpc_kind=_PROTOBUF,
            rpc_op=_FINAL,
            call_id=call_id,
            client_id=self._client_id,
            retry_count=-1,
        )

    def _send(self, before: bytes, *messages: Any) -> None:
        body = b"".join(_with_length(message.SerializeToString()) for message in messages)
        self._socket.sendall(before + struct.pack(">I", len(body)) + body)

    def _read(self, count: int) -> bytes:
        data = self._answers.read(count)
        if len(data) < count:
            raise BrokenConnection("the NameNode closed the connection")
        return data


def message(name: str, /, **fields: object) -> Any:
    """Return a message of `_MESSAGES`."""
    return _classes()[name](**fields)


@functools.cache
def _classes() -> Mapping[str, Any]:
    """Return the classes of `_MESSAGES`. A separate pool avoids conflicts with the names of other packages' messages."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    scalars = {scalar: getattr(field, f"TYPE_{scalar.upper()}") for scalar in _SCALARS}
    file = descriptor_pb2.FileDescriptorProto(name="firesteel.proto", package="firesteel", syntax="proto2")
    for name, fields in _MESSAGES.items():
        declared = file.message_type.add(name=name)
        for label, number, text in fields:
            kind = text.removeprefix("*")
            declared.field.add(
                name=label,
                number=number,
                label=field.LABEL_OPTIONAL if kind == text else field.LABEL_REPEATED,
                type=scalars.get(kind, field.TYPE_MESSAGE),
                type_name=None if kind in scalars else f".firesteel.{kind}",
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"firesteel.{name}")) for name in _MESSAGES
    }


def _first(data: bytes, name: str) -> tuple[Any, bytes]:
    """Return the first message in `data`, and the remaining bytes."""
    from google.protobuf.message import DecodeError

    length = shift = start = 0
    for byte in data[:5]:
        length |= (byte & 0x7F) << shift
        shift += 7
        start += 1
        if byte < 0x80:
            break
    if start + length > len(data):
        raise BrokenConnection("the answer is truncated")
    try:
        return _classes()[name].FromString(data[start : start + length]), data[start + length :]
    except DecodeError as error:
        raise BrokenConnection(f"the answer is not Hadoop RPC: {error}") from error


def _with_length(data: bytes) -> bytes:
    """Return `data` after its length as a varint."""
    length, prefix = len(data), bytearray()
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + data
