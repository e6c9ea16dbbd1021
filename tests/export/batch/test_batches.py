"""Blocks go through an engine batch by batch, and a batch that does not fit is halved."""

import numpy as np
import pytest
from commands import random_stack
from fake_engine import FakeEngine, results_of

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.batch.batches import Batches


def assert_equal(found, slices):
    expected = results_of(slices)
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


@pytest.mark.parametrize(("size", "batches"), [(12, [12]), (5, [5, 5, 2]), (1, [1] * 12), (100, [12])])
def test_any_batch_gives_the_same_results(size, batches):
    engine, slices = FakeEngine(), random_stack()
    assert_equal(Batches(engine, size, pytest.fail)(slices), slices)
    assert engine.batches == batches


def test_a_batch_without_room_is_halved_for_good_and_said():
    engine, slices, said = FakeEngine(room=3), random_stack(), []
    run = Batches(engine, 8, said.append)
    for _ in range(2):
        assert_equal(run(slices), slices)
    assert engine.batches == [8, 4, *[2] * 6, *[2] * 6]
    assert len(said) == 2
    assert "going on with 2 slices at once" in said[-1]


def test_room_that_ends_in_mid_block_loses_nothing():
    engine, slices = FakeEngine(), random_stack()
    run = Batches(engine, 4, lambda _: setattr(engine, "room", 10**9))
    run(slices[:4])
    engine.room = 1
    assert_equal(run(slices), slices)


def test_one_slice_without_room_is_one_line():
    with pytest.raises(InputError, match=r"fake-cpu: not even one slice fits the memory \(no room for 1\)"):
        Batches(FakeEngine(room=0), 4, lambda _: None)(random_stack())


def test_other_errors_pass():
    class Broken(FakeEngine):
        def __call__(self, slices):
            raise RuntimeError(f"a bug with {len(slices)}")

    with pytest.raises(RuntimeError, match="a bug with 4"):
        Batches(Broken(), 4, lambda _: None)(random_stack())
