"""The free list of a slab, against the plainest model of it: a set of bytes."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from firesteel.rdma_shuffle.memory.allocator import ALIGNMENT, Allocator

SIZE = 64 * ALIGNMENT


class AllocatorMachine(RuleBasedStateMachine):
    """Takes, gives, fences and lifts in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.allocator = Allocator(SIZE)
        self.lent: dict[int, int] = {}
        self.fenced: dict[int, int] = {}

    def held(self) -> list[tuple[int, int]]:
        return sorted({**self.lent, **self.fenced}.items())

    def gaps(self) -> list[int]:
        edges = [0, *(edge for at, size in self.held() for edge in (at, at + size)), SIZE]
        return [end - start for start, end in zip(edges[::2], edges[1::2], strict=True)]

    @rule(length=st.integers(1, SIZE + 1))
    def take(self, length: int) -> None:
        largest = max(self.gaps())
        offset = self.allocator.take(length)
        if offset is None:
            assert length > largest, "a gap was large enough"
            return
        assert offset % ALIGNMENT == 0
        assert offset + length <= SIZE
        rounded = -(-length // ALIGNMENT) * ALIGNMENT
        assert all(offset + rounded <= at or at + size <= offset for at, size in self.held()), "somebody has that"
        self.lent[offset] = rounded

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def give(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.lent)))
        del self.lent[offset]
        self.allocator.give(offset)

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def fence(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.lent)))
        self.fenced[offset] = self.lent.pop(offset)
        self.allocator.fence(offset)

    @precondition(lambda self: self.fenced)
    @rule(data=st.data())
    def lift(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.fenced)))
        del self.fenced[offset]
        self.allocator.lift(offset)

    @invariant()
    def bytes_add_up(self) -> None:
        assert self.allocator.lent_bytes == sum(self.lent.values())
        assert self.allocator.fenced_bytes == sum(self.fenced.values())
        assert sum(length for _, length in self.allocator._free) == SIZE - sum(self.lent.values()) - sum(
            self.fenced.values()
        )

    @invariant()
    def gaps_are_joined(self) -> None:
        assert [length for _, length in self.allocator._free] == [gap for gap in self.gaps() if gap]


TestAllocator = AllocatorMachine.TestCase
TestAllocator.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_an_extent_is_given_back_once() -> None:
    allocator = Allocator(SIZE)
    offset = allocator.take(10)
    assert offset is not None
    allocator.give(offset)
    with pytest.raises(KeyError):
        allocator.give(offset)
    with pytest.raises(KeyError):
        allocator.lift(offset)


def test_a_fenced_extent_is_not_given_out() -> None:
    allocator = Allocator(ALIGNMENT)
    assert allocator.take(1) == 0
    allocator.fence(0)
    assert allocator.take(1) is None
    allocator.lift(0)
    assert allocator.take(1) == 0


@pytest.mark.parametrize("length", [0, -1])
def test_an_extent_of_nothing_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="at least 1 byte"):
        Allocator(SIZE).take(length)
