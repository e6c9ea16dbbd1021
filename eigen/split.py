"""Which slices are learned from and which are held out (section 2.3).

The paper redraws a random 70/30 split every epoch. Neighbouring slices of a stack
are nearly equal, so that a slice held out at random has twins among those
trained on, and redrawing lets every slice be trained on in the end: the accuracy
is then that of recognition, not of generalisation. Here one split is fixed for a
run, and ``block`` holds out contiguous slices behind a guard gap.
"""

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.samples import SampleSet
from eigenfeatures.kernels import standardized_gradient

SPLITS = ("random", "block", "specimen")
TRAIN, VALIDATION, GUARD = "train", "validation", "guard"

VALIDATION_SHARE = 0.3
# The guard ends where the mean correlation of |∇Y| between slices has fallen to this,
# and is at most this share of the stack on each side of the held-out block.
GUARD_CORRELATION = 0.1
LARGEST_GUARD_SHARE = 0.15

_COMPARED_SLICES = 8


def split_slices(samples: SampleSet, how: str, seed: int) -> NDArray[np.str_]:
    """Assign every slice to ``train``, ``validation`` or ``guard``.

    Parameters
    ----------
    samples
        The stacks.
    how
        ``random``: 30 % of the slices of each class. ``block``: a contiguous 30 %
        of each stack, with a guard gap on both sides that is used for nothing, as
        long as `guard_length` says; regions cut from one stack share the block.
        ``specimen``: whole stacks,
        30 % of those of each class and at least one.
    seed
        Of the draw.

    Returns
    -------
    ndarray of str, shape (slices,)

    Raises
    ------
    InputError
        For an unknown split, or too few slices or stacks for it.
    """
    if how not in SPLITS:
        raise InputError(f"split '{how}' is unknown; choose one of {', '.join(SPLITS)}")
    draw = np.random.default_rng([seed, SPLITS.index(how)])
    assign = {"random": _random, "block": _block, "specimen": _specimen}[how]
    split = np.full(len(samples), TRAIN, dtype="<U10")
    assign(samples, split, draw)
    for label, name in enumerate(samples.classes):
        for part in (TRAIN, VALIDATION):
            if not np.any(split[samples.label == label] == part):
                raise InputError(
                    f"sample '{name}' has too few slices for a {part} part in the split '{how}'; "
                    f"use stacks of at least 10 slices{'' if how == 'random' else ', or another split'}"
                )
    return split


def guard_length(samples: SampleSet, members: NDArray[np.int64]) -> tuple[int, bool]:
    """Return after how many slices a stack no longer resembles itself.

    Parameters
    ----------
    samples
        The stacks.
    members
        Indices of the slices of one stack.

    Returns
    -------
    length : int
        The smallest lag, of a geometric series, at which standardised |∇Y| of slices
        that far apart correlate by at most `GUARD_CORRELATION` in the mean; at least
        1 and at most `LARGEST_GUARD_SHARE` of the stack.
    enough : bool
        Whether slices that far apart do correlate by as little.
    """
    region = members[samples.specimen_of[members] == samples.specimen_of[members[0]]]
    if len(region) < 2:
        return 1, True
    largest = max(1, round(LARGEST_GUARD_SHARE * len(region)))
    anchors = np.unique(np.linspace(0, len(region) - 1 - largest, _COMPARED_SLICES).astype(np.int64))
    here = standardized_gradient(samples.read(region[anchors]))
    for lag in np.unique(np.geomspace(1, largest, 16).astype(np.int64)):
        there = standardized_gradient(samples.read(region[anchors + lag]))
        if float(np.mean(here * there, dtype=np.float64)) <= GUARD_CORRELATION:
            return int(lag), True
    return largest, False


def _random(samples: SampleSet, split: NDArray[np.str_], draw: np.random.Generator) -> None:
    for label in range(len(samples.classes)):
        members = np.flatnonzero(samples.label == label)
        held_out = draw.permutation(members)[: round(VALIDATION_SHARE * len(members))]
        split[held_out] = VALIDATION


def _block(samples: SampleSet, split: NDArray[np.str_], draw: np.random.Generator) -> None:
    for members in slices_by_source(samples).values():
        positions = samples.slice_of[members]
        depth = int(positions.max()) + 1
        length = round(VALIDATION_SHARE * depth)
        guard, _ = guard_length(samples, members)
        start = int(draw.integers(0, depth - length + 1))
        inside = (positions >= start) & (positions < start + length)
        near = (positions >= start - guard) & (positions < start + length + guard)
        split[members[near]] = GUARD
        split[members[inside]] = VALIDATION


def _specimen(samples: SampleSet, split: NDArray[np.str_], draw: np.random.Generator) -> None:
    by_source = slices_by_source(samples)
    for label, name in enumerate(samples.classes):
        sources = [source for source in by_source if source[0] == label]
        if len(sources) < 2:
            raise InputError(
                f"sample '{name}' has one specimen only, and the split 'specimen' needs two or more; "
                "use the split 'block'"
            )
        held_out = draw.permutation(len(sources))[: max(1, round(VALIDATION_SHARE * len(sources)))]
        for index in held_out:
            split[by_source[sources[index]]] = VALIDATION


def slices_by_source(samples: SampleSet) -> dict[tuple[int, str], NDArray[np.int64]]:
    """Group slices by the stack that they come from; regions of one stack stay together."""
    groups: dict[tuple[int, str], list[int]] = {}
    for index, specimen in enumerate(samples.specimen_of):
        key = (int(samples.label[index]), samples.specimens[specimen].source)
        groups.setdefault(key, []).append(index)
    return {key: np.array(members, dtype=np.int64) for key, members in groups.items()}
