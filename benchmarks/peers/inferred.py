"""What a model says of slices, found by torch and LAPACK, and the check of what others say."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from peers import images
from peers.checks import BOUND
from peers.table import WrongAnswer

Array = NDArray[Any]
Answer = Mapping[str, Array]

STATISTICS = ("mean", "mean_gradient")
CHAIN = (*STATISTICS, "probabilities", "alpha_index", "eigenfeatures")

FLOAT32, INT8 = 1e-3, 0.05


class Expected(NamedTuple):
    """Of N slices, in the order of the stack.

    Attributes
    ----------
    mean, mean_gradient
        ``(N,)``.
    logits, probabilities
        ``(N, classes)``.
    peaks
        The largest activation of every ReLU2 map, ``(N, C)``.
    eigenfeatures
        u₁ of the pooled ReLU2 maps, ``(N, h, w)``.
    """

    mean: Array
    mean_gradient: Array
    logits: Array
    probabilities: Array
    peaks: Array
    eigenfeatures: Array


def expect(network: Any, slices: Array) -> Expected:
    """Compute all from raw slices ``(N, H, W)``: the network in torch, all else in float64."""
    import torch

    from eigenfeatures.eigen.responses import responses

    found = []
    for image in slices:
        inputs = torch.from_numpy(images.standardized(image).astype(np.float32))[None, None]
        with torch.inference_mode():
            given = responses(network, inputs, ["relu2", "logits"])
        maps, logits = (given[name][0].numpy() for name in ("relu2", "logits"))
        shares = np.exp(logits - logits.max(), dtype=np.float64)
        mean, _, mean_gradient, *_ = images.statistics(image)
        peaks = maps.max((1, 2))
        found.append((mean, mean_gradient, logits, shares / shares.sum(), peaks, _eigenfeature(maps)))
    return Expected(*(np.stack(parts) for parts in zip(*found, strict=True)))


def _eigenfeature(maps: Array) -> Array:
    rows = maps.reshape(len(maps), -1).astype(np.float64)
    u = np.linalg.eigh(rows @ rows.T).eigenvectors[:, -1] @ rows
    u *= np.sign(u.sum()) / np.linalg.norm(u)
    return u.reshape(maps.shape[1:])


class Inferred:
    """Arrays by name, each ``(N, …)``, of which some are known.

    An answer is right where statistics are off by a share of `BOUND` at most, probabilities by `tol`, an
    eigenfeature by a distance of `tol`, hence an angle, and the strongest channel's
    largest activation falls short of the largest of all by a share of `tol`.

    Parameters
    ----------
    expected
        What is known.
    names
        What is asked, of `CHAIN`.
    tol
        As above.
    """

    def __init__(self, expected: Expected, names: tuple[str, ...], tol: float = FLOAT32) -> None:
        self.expected, self.names, self.tol = expected, names, tol

    def __call__(self, answer: Answer) -> None:
        """Raise `WrongAnswer` unless every array is there and right."""
        for name in self.names:
            if name not in answer:
                raise WrongAnswer(f"{name}: missing")
            array = answer[name]
            shape = self._shape(name)
            if array.shape != shape:
                raise WrongAnswer(f"{name}: shape {array.shape} where {shape} was expected")
            error = float(_ERRORS[name](array, self.expected).max())
            allowed = BOUND if name in STATISTICS else self.tol
            if not error <= allowed:
                raise WrongAnswer(f"{name} is {error:.1e} off, and {allowed:.1e} is allowed")

    def wrong(self, answer: Answer) -> Iterator[tuple[str, Answer]]:
        """Yield answers of which one array is wrong, mostly in the last slice."""
        for name in self.names:
            right = answer[name]
            yield f"{name}: a slice is missing", {**answer, name: right[:-1]}
            if name == "alpha_index":
                yield f"{name}: the weakest", {**answer, name: self.expected.peaks.argmin(1)}
                continue
            for what, change in (("NaN", np.nan), ("off", self._too_much(right))):
                changed = right.astype(np.float64)
                changed[-1] += change
                yield f"{name}: {what}", {**answer, name: changed}
            if name == "eigenfeatures":
                yield f"{name}: the other sign", {**answer, name: -right}

    def _shape(self, name: str) -> tuple[int, ...]:
        known = self.expected.mean if name == "alpha_index" else getattr(self.expected, name)
        return known.shape

    def _too_much(self, right: Array) -> float:
        """Return ten times what is allowed: of a vector's length, or of a number."""
        return 10 * self.tol / float(np.sqrt(right[-1].size if right.ndim == 3 else 1))


def _relative(name: str) -> Callable[[Array, Expected], Array]:
    return lambda found, expected: np.abs(found / getattr(expected, name) - 1)


_ERRORS: Mapping[str, Callable[[Array, Expected], Array]] = {
    **{name: _relative(name) for name in STATISTICS},
    "probabilities": lambda found, expected: np.abs(found - expected.probabilities),
    "eigenfeatures": lambda found, expected: np.linalg.norm(found - expected.eigenfeatures, axis=(1, 2)),
    "alpha_index": lambda found, expected: (
        1 - np.take_along_axis(expected.peaks, found[:, np.newaxis], 1)[:, 0] / expected.peaks.max(1)
    ),
}
