"""How a message class becomes bytes: a codec for each type of field, and the base class that applies them in order.

ADR 7 says why this is not protobuf.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple, Self, TypeVar, dataclass_transform, get_type_hints

from firesteel.rdma_shuffle.wire.codec import (
    MAC_BYTES,
    NONCE_BYTES,
    Body,
    text,
    texts,
    u8,
    u16,
    u32,
    u64,
)

MAX_NAME = 200
SECRET_BYTES = 32


class Field(NamedTuple):
    """The codec of one field: how it is written, and how it is read and validated."""

    write: Callable[[Any], bytes]
    read: Callable[[Body], Any]


def read_texts(body: Body) -> tuple[str, ...]:
    """Read what `texts` writes."""
    return tuple(body.text() for _ in range(body.count(2, 0xFFFF, short=True)))


U8 = Annotated[int, Field(u8, Body.u8)]
U16 = Annotated[int, Field(u16, Body.u16)]
U32 = Annotated[int, Field(u32, Body.u32)]
U64 = Annotated[int, Field(u64, Body.u64)]
Text = Annotated[str, Field(text, Body.text)]
Name = Annotated[str, Field(text, lambda body: body.text(MAX_NAME))]
Texts = Annotated[tuple[str, ...], Field(texts, read_texts)]
Nonce = Annotated[bytes, Field(bytes, lambda body: body.raw(NONCE_BYTES))]
Mac = Annotated[bytes, Field(bytes, lambda body: body.raw(MAC_BYTES))]
Secret = Annotated[bytes, Field(bytes, lambda body: body.raw(SECRET_BYTES))]


class Message:
    """A message, or a part of one. Its fields are written and read in the order of their declaration."""

    __slots__ = ()
    kind: ClassVar[int]
    _codecs: ClassVar[tuple[tuple[str, Field], ...]]

    def __init_subclass__(cls) -> None:
        hints = get_type_hints(cls, include_extras=True)
        cls._codecs = tuple(
            (name, hint.__metadata__[0]) for name, hint in hints.items() if hasattr(hint, "__metadata__")
        )

    def body(self) -> bytes:
        """Return the bytes after the frame's head."""
        return b"".join([field.write(getattr(self, name)) for name, field in self._codecs])

    @classmethod
    def read(cls, body: Body) -> Self:
        """Read the fields from a body. Raises MALFORMED."""
        return cls(*[field.read(body) for _, field in cls._codecs])


M = TypeVar("M", bound=Message)


@dataclass_transform(frozen_default=True)
def message(kind: int, protocol: dict[int, type[Message]], **options: bool) -> Callable[[type[M]], type[M]]:
    """Make a class a frozen dataclass and add it to the messages of a protocol."""

    def register(declared: type[M]) -> type[M]:
        declared.kind = kind
        registered = dataclass(frozen=True, slots=True, **options)(declared)
        protocol[kind] = registered
        return registered

    return register
