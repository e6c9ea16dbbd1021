"""How near a model of less precision comes to the float32 one it was made from, on raw slices."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.reliability import ILL_DETERMINED_RATIO
from eigenfeatures.export.outputs import ALPHA, CLASSIFICATION, DECOMPOSITION, Request

AGREEMENT = 0.995
COSINE = 0.999

Arrays = dict[str, NDArray[Any]]

# From raw slices to arrays by name.
Model = Callable[[NDArray[Any]], Arrays]


@dataclass(frozen=True)
class Accuracy:
    """What two models have in common over the slices compared.

    Attributes
    ----------
    slices : int
        How many were compared.
    undetermined : int
        Of these, how many have a first singular vector that is ill-determined (σ₂/σ₁ above 0.99, as far as
        the model gives ``gap``); their vectors are not compared.
    measures : dict
        As far as the outputs tell:

        - ``class_agreement``: the share of slices of the same class; at least `AGREEMENT` is asked.
        - ``largest_difference_of_probabilities``.
        - ``u1_cosine_mean``, ``_median``, ``_percentile_1``, ``_minimum`` of ``|cos|`` between the first
          eigenfeatures; the mean is asked to be at least `COSINE`. The same of the maps of a response layer.
        - ``largest_difference_of_sigma1``, relative.
        - ``alpha_agreement``: the share of slices with the same strongest channel.

        What is not finite has cosine 0 and difference 1.
    vectors : int or None
        How many slices have a first singular vector that was compared; None for models that give none.
    """

    slices: int
    undetermined: int
    measures: dict[str, float]
    vectors: int | None = None

    @property
    def missed(self) -> str:
        """What falls short of what is asked, in words; empty if nothing does.

        Vectors of which none could be compared do: nothing is known of them.
        """
        unknown = (
            "no eigenfeature could be compared, since the first one is ill-determined in every slice "
            f"(σ₂/σ₁ above {ILL_DETERMINED_RATIO})"
        )
        return ", ".join(filter(None, [unknown if self.vectors == 0 else "", self.short]))

    @property
    def short(self) -> str:
        """The measures that fall short of what is asked, in words, as far as there are any."""
        found = [
            f"{name} {value:.5f} ({asked} is asked)"
            for name, value in self.measures.items()
            if (asked := _asked(name)) is not None and not value >= asked
        ]
        return ", ".join(found)

    def facts(self) -> dict[str, float]:
        """Return all of it as one dictionary."""
        return {"slices": self.slices, "undetermined_vectors": self.undetermined, **self.measures}


def check_measurable(request: Request) -> None:
    """Raise `InputError` for outputs that tell nothing of a class or an image."""
    told_by = set(request.outputs) - {"alpha", *DECOMPOSITION[1:]}
    if not told_by:
        raise InputError(
            f"the accuracy of '{','.join(request.outputs)}' alone can't be told; ask for probabilities, "
            "eigenfeatures or a response layer too"
        )


def compare_files(reference: Path, other: Path, blocks: Iterable[NDArray[Any]]) -> Accuracy:
    """Run both files on blocks of raw slices ``(k, H, W)``, on the CPU, and compare their arrays."""
    expected = _session(reference)
    names = [output.name for output in expected.get_outputs()]
    return compare(partial(_run, expected, names), partial(_run, _session(other), names), blocks)


def compare(reference: Model, other: Model, blocks: Iterable[NDArray[Any]]) -> Accuracy:
    """Run two models on blocks of raw slices ``(k, H, W)``, and compare their arrays."""
    parts: dict[str, list[NDArray[Any]]] = {}
    count = 0
    for block in blocks:
        count += len(block)
        for name, values in _by_slice(reference(block), other(block)).items():
            parts.setdefault(name, []).append(values)
    by_slice = {name: np.concatenate(values) for name, values in parts.items()}
    undetermined = by_slice.pop("undetermined", np.zeros(count, bool))
    vectors = None
    if "u1_cosine" in by_slice:
        by_slice["u1_cosine"] = by_slice["u1_cosine"][~undetermined]
        vectors = len(by_slice["u1_cosine"])
    measures: dict[str, float] = {}
    for name, values in by_slice.items():
        measures |= _summary(name, values)
    return Accuracy(count, int(undetermined.sum()), measures, vectors)


def _session(path: Path) -> Any:
    from eigenfeatures.export.sessions import open_session  # which engines of torch are compared without

    return open_session(path)


def _run(session: Any, names: list[str], slices: NDArray[Any]) -> Arrays:
    return dict(zip(names, session.run(names, {"slices": slices}), strict=True))


def _by_slice(expected: Arrays, found: Arrays) -> Arrays:
    """Compare every array; one value a slice."""
    values: Arrays = {}
    for name, array in expected.items():
        other = found[name]
        if name in CLASSIFICATION:
            values["class_agreement"] = array.argmax(1) == other.argmax(1)
            if name == "probabilities":
                values["probabilities"] = _difference(array, other).max(1)
        elif name == "eigenfeatures":
            values["u1_cosine"] = _cosine(array[:, 0], other[:, 0])
        elif name == "singular_values":
            first = array[:, 0]
            values["sigma1"] = _difference(first, other[:, 0], np.where(first > 0, first, 1))
        elif name == "gap":
            values["undetermined"] = array > ILL_DETERMINED_RATIO
        elif name == "alpha_index":
            values["alpha_agreement"] = array == other
        elif name not in (*ALPHA, *DECOMPOSITION):
            values[f"{name}_cosine"] = _cosine(array, other)
    return values


def _difference(expected: NDArray[Any], found: NDArray[Any], unit: NDArray[Any] | float = 1) -> NDArray[Any]:
    """Return by how many units two arrays differ: 1 where that is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(found - expected) / unit
    return np.where(np.isfinite(difference), difference, 1)


def _cosine(expected: NDArray[Any], found: NDArray[Any]) -> NDArray[np.float64]:
    """Return ``|cos|`` between the images of each slice: 1 between zeros, 0 between zero and another."""
    a, b = (array.reshape(len(array), -1).astype(np.float64) for array in (expected, found))
    with np.errstate(invalid="ignore", over="ignore"):
        product = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosine = np.abs(np.sum(a * b, axis=1)) / np.where(product > 0, product, 1)
    both_zero = ~(a.any(axis=1) | b.any(axis=1))
    return np.where(both_zero, 1.0, np.where(np.isfinite(cosine), cosine, 0.0))


def _summary(name: str, values: NDArray[Any]) -> dict[str, float]:
    if name.endswith("_agreement"):
        return {name: float(values.mean())}
    if not name.endswith("_cosine"):
        return {f"largest_difference_of_{name}": float(values.max())}
    if not len(values):
        return {}
    return {
        f"{name}_mean": float(values.mean()),
        f"{name}_median": float(np.median(values)),
        f"{name}_percentile_1": float(np.percentile(values, 1)),
        f"{name}_minimum": float(values.min()),
    }


def _asked(measure: str) -> float | None:
    if measure == "class_agreement":
        return AGREEMENT
    return COSINE if measure.endswith("_cosine_mean") else None
