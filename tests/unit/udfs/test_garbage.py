"""The collector: what stays is not looked at after every task, what goes is still found."""

from __future__ import annotations

import gc
import weakref

import pytest

from firesteel.udfs.garbage import freeze_objects


class Cycle:
    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def unfrozen():
    yield
    gc.unfreeze()


def test_what_is_there_is_left_out_of_collections():
    gc.collect()
    before = len(gc.get_objects())
    freeze_objects()
    assert gc.get_freeze_count() >= before * 0.9
    assert len(gc.get_objects()) < before * 0.1


def test_a_model_that_was_dropped_since_goes_with_the_next_one():
    cycle = Cycle()
    gone = weakref.ref(cycle)
    freeze_objects()
    del cycle
    gc.collect()
    assert gone() is not None
    freeze_objects()
    assert gone() is None
