"""Whether quantities put the samples in the same order (Fig. 10).

Four samples are few: of their 24 orders two are as extreme as perfect agreement, so that p is never
below 2/24 = 0.083, however clear the order looks.

References
----------
M. G. Kendall and B. Babington Smith, "The problem of m rankings", Ann. Math. Statist. 10 (1939) 275.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

MOST_PERMUTED = 8
"""Up to so many samples all orders are counted (8! = 40,320)."""


@dataclass(frozen=True)
class Agreement:
    """How well two orders of the samples agree.

    Attributes
    ----------
    kendall_tau : float
        τ_b, from -1 (reversed) to 1 (the same order); NaN where one quantity is the same in all samples.
    spearman : float
        Spearman's rank correlation; NaN likewise.
    permutations_p : float
        Two-sided p of τ: the share of all orders of the samples that agree or disagree at least as
        much. Beyond `MOST_PERMUTED` samples, SciPy's p of τ. NaN where τ is.
    samples : int
        That have both quantities.
    """

    kendall_tau: float
    spearman: float
    permutations_p: float
    samples: int


def rank_agreement(values: NDArray[np.float64], reference: NDArray[np.float64]) -> Agreement:
    """Compare two orders of the samples.

    Parameters
    ----------
    values, reference : ndarray, shape (samples,)
        One number a sample; a sample with NaN in either is left out.

    Returns
    -------
    Agreement
    """
    known = np.isfinite(values) & np.isfinite(reference)
    first, second = values[known], reference[known]
    count = int(known.sum())
    if count < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return Agreement(np.nan, np.nan, np.nan, count)
    kendall = stats.kendalltau(first, second)
    p = _exact_p(first, second) if count <= MOST_PERMUTED else float(kendall.pvalue)
    ranks = stats.rankdata(first), stats.rankdata(second)
    return Agreement(float(kendall.statistic), float(np.corrcoef(*ranks)[0, 1]), p, count)


def sample_means(
    values: NDArray[np.float64], labels: NDArray[np.int64], classes: Sequence[str]
) -> NDArray[np.float64]:
    """Average a quantity of slices over each sample.

    Parameters
    ----------
    values : ndarray, shape (slices,)
        NaN is left out.
    labels : ndarray of int, shape (slices,)
        Index into `classes` of each slice.
    classes : sequence of str
        Names of the samples.

    Returns
    -------
    ndarray, shape (samples,), float64
        NaN for a sample without a value.
    """
    means = np.full(len(classes), np.nan)
    for label in range(len(classes)):
        chosen = values[(labels == label) & np.isfinite(values)]
        if chosen.size:
            means[label] = chosen.mean(dtype=np.float64)
    return means


def concordance(values: NDArray[np.float64]) -> float:
    """Return Kendall's W, corrected for ties: how far several runs put the samples in one order.

    Parameters
    ----------
    values : ndarray, shape (runs, samples)
        A sample with NaN in any run is left out.

    Returns
    -------
    float
        1 where all runs agree; 1/runs is expected of orders at random. NaN for fewer than two runs
        or samples, or where no run tells the samples apart.
    """
    known = values[:, np.isfinite(values).all(axis=0)]
    runs, samples = known.shape
    if runs < 2 or samples < 2:
        return float("nan")
    ranks = stats.rankdata(known, axis=1)
    mean_rank = ranks.mean(axis=0)
    # With ties the ranks of a run vary less: W compares with the most that is then possible.
    possible = np.var(ranks, axis=1).mean()
    return float(np.var(mean_rank) / possible) if possible > 0 else float("nan")


def _exact_p(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Count the orders whose Kendall sum of signs, an integer, is at least as far from 0."""
    orders = np.array(list(permutations(range(len(first)))))
    signs = np.sign(first[:, None] - first).astype(np.int64)
    others = np.sign(second[:, None] - second).astype(np.int64)
    sums = np.abs(np.sum(signs * others[orders[:, :, None], orders[:, None, :]], axis=(1, 2)))
    return float(np.mean(sums >= sums[0]))  # the first permutation is the identity
