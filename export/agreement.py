"""The check of an exported file: ONNX Runtime against torch and against the kernels' decomposition."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eigenfeatures.eigen.preprocessing import Preprocessing
from eigenfeatures.eigen.reliability import ILL_DETERMINED_RATIO
from eigenfeatures.export.raw_graph import RawGraph
from eigenfeatures.export.sessions import open_session
from eigenfeatures.kernels import truncated_svd

TOLERANCE = 1e-4

# A vector after the first is left to rounding where its singular value is nearer to a neighbour's or smaller.
_NEAR, _SMALL = 0.95, 0.05
# By how much more vectors after the first may differ than the first.
_LENIENCE = 10
# Ratios σ/σ₁ below this are compared by their squares, see `_of_ratios`.
_SQUARED_BELOW = 0.01
_KERNEL_TOLERANCE = 4e-6
_COMPARED_AT_ONCE = 2
_ABSOLUTE = ("probabilities", "residual")

Arrays = dict[str, NDArray[Any]]


class ExportMismatchError(RuntimeError):
    """The exported graph does not compute what torch computes."""


@dataclass(frozen=True)
class ExportCheck:
    """How far ONNX Runtime is from torch and the kernels, over the slices compared.

    Attributes
    ----------
    slices : int
        How many were compared.
    differences : dict
        Array name to the largest difference. Probabilities, ``gap`` and ``residual``: as it is. Singular
        values: relative to σ₁. Of ``gap`` and singular values below 0.005 σ₁: a hundred times the
        difference of the squares. Eigenfeatures: the distance of unit vectors, so for small angles their
        sine; a tenth of it after the first. All others: relative to the largest value of the
        slice, or to 1 if that is more; for ``alpha_index`` by how much its channel falls short of the
        strongest.
    undetermined : int
        Singular vectors that rounding decides on: neither they nor the residual of their slice are compared.
    """

    slices: int
    differences: dict[str, float]
    undetermined: int

    @property
    def largest(self) -> float:
        """The largest of all differences."""
        return max(self.differences.values())


def check_agreement(
    graph: RawGraph, preprocessing: Preprocessing, path: Path, slices: NDArray[Any]
) -> ExportCheck:
    """Run an exported file on raw slices and compare every array.

    Expected is what the network was trained on: the kernels' preprocessing, then torch. Singular
    vectors and values are compared with the kernels' besides. A graph for any size runs
    on a part of each slice too.

    Raises
    ------
    ExportMismatchError
        When a difference exceeds `TOLERANCE`.
    """
    session = open_session(path)
    names = list(graph.request.arrays)
    differences, undetermined = dict.fromkeys(names, 0.0), 0
    for block in _blocks(slices, graph.request.any_size):
        found = dict(zip(names, session.run(names, {"slices": block}), strict=True))
        expected = _by_torch(graph, preprocessing, block)
        references, decided = [expected], None
        if graph.request.decomposes:
            by_kernels, decided = _by_kernels(expected[graph.request.layer], graph.request.rank)
            references.append(expected | by_kernels)
            undetermined += int(np.sum(~decided))
        for reference in references:
            for name in names:
                difference = _difference(name, found, reference, decided)
                differences[name] = max(differences[name], difference)
    check = ExportCheck(len(slices), differences, undetermined)
    if check.largest > TOLERANCE:
        listed = ", ".join(
            f"{value:.1e} in {name}" for name, value in differences.items() if value > TOLERANCE
        )
        raise ExportMismatchError(
            f"the exported graph differs from torch by {listed}, and {TOLERANCE:.0e} is allowed; "
            "no file was written"
        )
    return check


def _blocks(slices: NDArray[Any], any_size: bool) -> Iterator[NDArray[Any]]:
    views = [slices]
    if any_size:
        views.append(slices[:, : slices.shape[1] * 3 // 4, : slices.shape[2] * 4 // 5])
    for view in views:
        for start in range(0, len(view), _COMPARED_AT_ONCE):
            yield np.ascontiguousarray(view[start : start + _COMPARED_AT_ONCE])


@torch.inference_mode()
def _by_torch(graph: RawGraph, preprocessing: Preprocessing, block: NDArray[Any]) -> Arrays:
    images = torch.from_numpy(preprocessing(block))[:, None]
    return {name: array.numpy() for name, array in graph.from_images(images).items()}


def _by_kernels(maps: NDArray[np.float32], rank: int) -> tuple[Arrays, NDArray[np.bool_]]:
    """Return what the kernels find, and which vectors are not left to rounding, ``(N, rank)``."""
    count = min(rank + 1, maps.shape[1], maps.shape[2] * maps.shape[3])
    svd = truncated_svd(maps, count, tol=_KERNEL_TOLERANCE)
    s = np.pad(svd.s, ((0, 0), (0, rank + 1 - count)))
    ratios = s[:, 1:] / np.where(s[:, :-1] > 0, s[:, :-1], 1)
    decided = (s[:, :rank] >= _SMALL * s[:, :1]) & (ratios <= _NEAR)
    decided[:, 1:] &= ratios[:, :-1] <= _NEAR
    decided[:, 0] = ratios[:, 0] <= ILL_DETERMINED_RATIO
    found = {"eigenfeatures": svd.u[:, :rank], "singular_values": s[:, :rank], "gap": ratios[:, 0]}
    return found, decided


def _difference(name: str, found: Arrays, expected: Arrays, decided: NDArray[np.bool_] | None) -> float:
    """Compare one array in the units of `ExportCheck`; infinite where a value is not finite."""
    ours, theirs = found[name], expected[name]
    if name == "alpha_index":
        theirs, ours = expected["alpha_maximum"], _of_channel(expected["channel_maximum"], ours)
    elif name == "alpha_mean":
        # Where two channels are equal up to rounding either is right, with its own mean.
        theirs = _of_channel(expected["channel_mean"], found["alpha_index"])
    wide = theirs.reshape(len(theirs), -1).astype(np.float64)
    difference = np.abs(ours.reshape(wide.shape) - wide)
    if name == "eigenfeatures" and decided is not None:
        difference = np.linalg.norm(difference.reshape(*decided.shape, -1), axis=2)
        difference[:, 1:] /= _LENIENCE
        difference = difference[decided]
    elif name == "residual" and decided is not None:
        difference = difference[decided.all(axis=1)]
    elif name in ("gap", "singular_values"):
        largest_value = np.where(wide[:, :1] > 0, wide[:, :1], 1) if name == "singular_values" else 1
        difference = _of_ratios(ours.reshape(wide.shape) / largest_value, wide / largest_value)
    elif name not in _ABSOLUTE:
        difference /= np.maximum(np.abs(wide).max(axis=1, keepdims=True), 1)
    largest = float(difference.max(initial=0))
    return largest if np.isfinite(largest) else np.inf


def _of_ratios(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compare σ/σ₁, of which a graph that decomposes XᵀX knows the square to about 2·10⁻⁷.

    So near 0 the ratio itself is left to rounding, as it is of a blank slice, whose maps
    are nearly one image.
    """
    sizes = np.abs(ours) + np.abs(theirs)
    difference: NDArray[np.float64] = np.abs(ours - theirs) * np.minimum(sizes / _SQUARED_BELOW, 1)
    return difference


def _of_channel(values: NDArray[Any], index: NDArray[np.int64]) -> NDArray[Any]:
    """Take from ``(N, C)`` each slice's channel."""
    taken: NDArray[Any] = np.take_along_axis(values, index[:, None], axis=1)[:, 0]
    return taken
