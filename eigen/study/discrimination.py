"""Whether descriptors of a map tell the samples apart by themselves.

A linear classifier, judged on blocks of slices that it hasn't seen: neighbouring slices are nearly
equal, so that slices held out at random would be recognised and not classified.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from eigenfeatures.eigen.errors import InputError

FOLDS = 5
"""Of the cross-validation; fewer where a sample has fewer blocks."""

# Of the penalty |w|²/2C on standardised descriptors. It is fixed: a handful of independent blocks can't
# choose it without bias, and one value for all kinds of maps makes their scores comparable.
REGULARISATION = 1.0


@dataclass(frozen=True)
class Scores:
    """Accuracy of a linear classifier, as shares of slices.

    Attributes
    ----------
    cross_validated : float
        Mean over the folds.
    folds : tuple of float
        Each fold's.
    held_out : float or None
        Trained and judged on the slices that the network was trained and judged on; None where
        these don't allow it.
    """

    cross_validated: float
    folds: tuple[float, ...]
    held_out: float | None


def discriminate(
    features: NDArray[np.float64],
    labels: NDArray[np.int64],
    blocks: NDArray[np.int64],
    *,
    train: NDArray[np.bool_],
    validation: NDArray[np.bool_],
) -> Scores:
    """Classify slices by logistic regression on standardised descriptors.

    Nothing is drawn at random. A fold holds out a contiguous run of blocks of every sample; of the block
    on either side of it, the half that is nearer is used for nothing.

    Parameters
    ----------
    features : ndarray, shape (slices, d)
        A slice with a value that isn't finite is left out.
    labels : ndarray of int, shape (slices,)
        The sample of each slice.
    blocks : ndarray of int, shape (slices,)
        The block of each slice. Blocks belong to one sample each, and regions cut from one stack share
        those of equal depth; the slices of a region are in their order in the stack.
    train, validation : ndarray of bool, shape (slices,)
        The slices that a network was trained and judged on.

    Returns
    -------
    Scores

    Raises
    ------
    InputError
        There are fewer than two samples, or one has fewer than two blocks.
    """
    usable = np.isfinite(features).all(axis=1)
    features, labels, blocks = features[usable], labels[usable], blocks[usable]
    folds = [_accuracy(features, labels, trained, judged) for trained, judged in block_folds(labels, blocks)]
    train, validation = train[usable], validation[usable]
    possible = validation.any() and len(np.unique(labels[train])) > 1
    held_out = _accuracy(features, labels, train, validation) if possible else None
    return Scores(float(np.mean(folds)), tuple(folds), held_out)


def block_folds(
    labels: NDArray[np.int64], blocks: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield the masks of the slices to train on and to judge on, for each fold of `discriminate`."""
    of_samples = [np.unique(blocks[labels == label]) for label in np.unique(labels)]
    if len(of_samples) < 2 or min(map(len, of_samples)) < 2:
        raise InputError(
            "discrimination needs two samples of at least two blocks of slices each; "
            "use more samples, longer stacks or shorter blocks"
        )
    first_half, last_half = _halves(blocks)
    folds = min(FOLDS, *map(len, of_samples))
    for fold in range(folds):
        held: list[int] = []
        before: list[int] = []
        after: list[int] = []
        for numbers in of_samples:
            chosen = np.array_split(np.arange(len(numbers)), folds)[fold]
            first, stop = chosen[0], chosen[-1] + 1
            held += numbers[first:stop].tolist()
            before += numbers[max(first - 1, 0) : first].tolist()
            after += numbers[stop : stop + 1].tolist()
        judged = np.isin(blocks, held)
        near = (np.isin(blocks, before) & last_half) | (np.isin(blocks, after) & first_half)
        yield ~judged & ~near, judged


def _halves(blocks: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Mark the first and the last half of each block, in each of the regions that share it."""
    starts = np.flatnonzero(np.diff(blocks, prepend=blocks[0] - 1))
    lengths = np.diff(starts, append=len(blocks))
    place = np.arange(len(blocks)) - np.repeat(starts, lengths)
    length = np.repeat(lengths, lengths)
    return place < length // 2, place >= length - length // 2


def _accuracy(
    features: NDArray[np.float64],
    labels: NDArray[np.int64],
    train: NDArray[np.bool_],
    validation: NDArray[np.bool_],
) -> float:
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=REGULARISATION, max_iter=1000))
    # Matrices this small are faster on one thread, and sums are then the same on every machine's threads.
    with threadpool_limits(1):
        classifier.fit(features[train], labels[train])
        return float(classifier.score(features[validation], labels[validation]))
