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

SPLITS = ("random", "block", "specimen")
TRAIN, VALIDATION, GUARD = "train", "validation", "guard"

VALIDATION_SHARE = 0.3
# Each side of a held-out block, as a share of the stack: 13 of 266 slices, which
# is longer than the correlation length of the materials that we have seen.
GUARD_SHARE = 0.05


def split_slices(samples: SampleSet, how: str, seed: int) -> NDArray[np.str_]:
    """Assign every slice to ``train``, ``validation`` or ``guard``.

    Parameters
    ----------
    samples
        The stacks.
    how
        ``random``: 30 % of the slices of each class. ``block``: a contiguous 30 %
        of each stack, with a guard gap on both sides that is used for nothing;
        regions cut from one stack share the block. ``specimen``: whole stacks,
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
                raise InputError(f"sample '{name}' has too few slices for a {part} part in the split '{how}'")
    return split


def _random(samples: SampleSet, split: NDArray[np.str_], draw: np.random.Generator) -> None:
    for label in range(len(samples.classes)):
        members = np.flatnonzero(samples.label == label)
        held_out = draw.permutation(members)[: round(VALIDATION_SHARE * len(members))]
        split[held_out] = VALIDATION


def _block(samples: SampleSet, split: NDArray[np.str_], draw: np.random.Generator) -> None:
    for members in _slices_by_source(samples).values():
        positions = samples.slice_of[members]
        depth = int(positions.max()) + 1
        length = round(VALIDATION_SHARE * depth)
        guard = max(1, round(GUARD_SHARE * depth))
        start = int(draw.integers(0, depth - length + 1))
        inside = (positions >= start) & (positions < start + length)
        near = (positions >= start - guard) & (positions < start + length + guard)
        split[members[near]] = GUARD
        split[members[inside]] = VALIDATION


def _specimen(samples: SampleSet, split: NDArray[np.str_], draw: np.random.Generator) -> None:
    by_source = _slices_by_source(samples)
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


def _slices_by_source(samples: SampleSet) -> dict[tuple[int, str], NDArray[np.int64]]:
    """Group slices by the stack that they come from; regions of one stack stay together."""
    groups: dict[tuple[int, str], list[int]] = {}
    for index, specimen in enumerate(samples.specimen_of):
        key = (int(samples.label[index]), samples.specimens[specimen].source)
        groups.setdefault(key, []).append(index)
    return {key: np.array(members, dtype=np.int64) for key, members in groups.items()}
