"""The likeness of held-out slices to training slices is the correlation that NumPy finds."""

import numpy as np
import pytest
import reference
import tifffile

from eigenfeatures.eigen.likeness import LARGEST_LIKENESS, likeness
from eigenfeatures.eigen.samples import open_samples
from eigenfeatures.eigen.split import TRAIN, VALIDATION, split_slices


def noise(slices: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (slices, 40, 40), np.uint8)


@pytest.fixture
def opened(tmp_path):
    """Sample a repeats itself every 20 slices, b never does, and c is one grey value."""
    stacks = {"a": np.tile(noise(20), (3, 1, 1)), "b": noise(60, seed=1), "c": np.full_like(noise(60), 7)}
    for name, stack in stacks.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", stack, photometric="minisblack")
    with open_samples(tmp_path) as samples:
        yield samples


def test_a_stack_that_repeats_itself_leaks_past_the_guard(opened):
    found = likeness(opened, split_slices(opened, "block", 0))
    assert found["a"] == 1.0
    assert 0 < found["b"] < LARGEST_LIKENESS
    assert found["c"] == 0


def test_likeness_is_the_mean_of_the_largest_correlations(opened):
    """Eight of nine validation slices, the first and the last among them, against eleven training slices."""
    split = np.full(len(opened), "guard", dtype="<U10")
    held_out, training = np.arange(60, 69), np.arange(80, 91)
    split[held_out], split[training] = VALIDATION, TRAIN
    gradients = [
        reference.gradient_magnitude(image, "sobel").ravel() for image in opened.read(range(60, 120))
    ]
    table = np.corrcoef(gradients)[np.ix_([0, 1, 2, 3, 4, 5, 6, 8], training - 60)]
    found = likeness(opened, split)
    assert found == {"a": None, "b": pytest.approx(table.max(axis=1).mean(), abs=6e-4), "c": None}


def test_only_slices_of_one_stack_are_compared(tmp_path):
    """Specimens that are copies don't count; where they are held out whole, nothing is left to compare."""
    for sample in "ab":
        for number in range(4):
            (tmp_path / sample).mkdir(exist_ok=True)
            path = tmp_path / sample / f"specimen{number}.tif"
            tifffile.imwrite(path, noise(5), photometric="minisblack")
    with open_samples(tmp_path) as samples:
        assert likeness(samples, split_slices(samples, "specimen", 0)) == {"a": None, "b": None}
        assert likeness(samples, split_slices(samples, "random", 0))["a"] < LARGEST_LIKENESS
