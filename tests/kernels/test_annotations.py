"""The arrays that the annotations promise are those that come back.

pytest runs this file, and ``mypy tests/kernels/test_annotations.py`` reads it, for which `assert_type` is.
"""

from typing import Any, assert_type

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from eigenfeatures.kernels import (
    SliceStatistics,
    StreamingSVD,
    StrongestChannel,
    TruncatedSVD,
    gradient,
    gradient_magnitude,
    gram,
    slice_statistics,
    standardized_gradient,
    stretch_contrast,
    strongest_channel,
    truncated_svd,
)

ARRAY: NDArray[np.float32] = np.random.default_rng(0).random((3, 9, 8), dtype=np.float32)
TENSOR = torch.from_numpy(ARRAY)
LIST = [[[1.0, 2.0], [3.0, 4.0]], [[4.0, 3.0], [2.0, 1.0]]]


class Slices(Dataset[torch.Tensor]):
    """As in docs/embedding.md."""

    def __getitem__(self, index: int) -> torch.Tensor:
        return standardized_gradient(TENSOR[index])[None]


def are(kind: type, *arrays: object) -> None:
    assert [type(array) for array in arrays] == [kind] * len(arrays)


def test_arrays_of_numpy() -> None:
    images = gradient_magnitude(ARRAY)
    assert_type(images, NDArray[Any])
    assert_type(gradient_magnitude(ARRAY, "scharr", out=images), NDArray[Any])
    assert_type(standardized_gradient(ARRAY, mean=1, deviation=2, out=images), NDArray[Any])
    assert_type(stretch_contrast(ARRAY), NDArray[Any])
    assert_type(gradient(ARRAY), tuple[NDArray[Any], NDArray[Any]])
    assert_type(gram(ARRAY), NDArray[np.float64])
    statistics: SliceStatistics = slice_statistics(ARRAY)
    assert_type(statistics.mean, NDArray[Any])
    strongest: StrongestChannel = strongest_channel(ARRAY)
    assert_type(strongest.index, NDArray[Any])
    svd: TruncatedSVD = truncated_svd(ARRAY, start=[1, 2, 3])
    assert_type(svd.u, NDArray[Any])
    stream = StreamingSVD()
    stream.add(ARRAY)
    assert_type(stream.left(ARRAY), NDArray[Any])
    are(np.ndarray, images, *statistics, strongest.index, svd.u, stream.left(ARRAY))


def test_lists_give_arrays_of_numpy() -> None:
    magnitude = gradient_magnitude(LIST)
    assert_type(magnitude, NDArray[Any])
    assert_type(standardized_gradient(LIST, out=magnitude), NDArray[Any])
    assert_type(gradient(LIST), tuple[NDArray[Any], NDArray[Any]])
    assert_type(gram(LIST), NDArray[np.float64])
    assert_type(slice_statistics(LIST), SliceStatistics[NDArray[Any]])
    assert_type(strongest_channel(LIST), StrongestChannel[NDArray[Any]])
    assert_type(truncated_svd(LIST), TruncatedSVD[NDArray[Any]])
    are(np.ndarray, magnitude, truncated_svd(LIST).u)


def test_tensors_of_torch() -> None:
    images = torch.empty(ARRAY.shape)
    assert_type(gradient_magnitude(TENSOR, "scharr", out=images), torch.Tensor)
    assert_type(standardized_gradient(TENSOR, mean=1, deviation=2, out=images), torch.Tensor)
    assert_type(stretch_contrast(TENSOR), torch.Tensor)
    assert_type(gradient(TENSOR), tuple[torch.Tensor, torch.Tensor])
    assert_type(gram(TENSOR), torch.Tensor)
    statistics = slice_statistics(TENSOR)
    assert_type(statistics, SliceStatistics[torch.Tensor])
    strongest = strongest_channel(TENSOR)
    assert_type(strongest, StrongestChannel[torch.Tensor])
    svd = truncated_svd(TENSOR, start=TENSOR[:, 0, 0])
    assert_type(svd, TruncatedSVD[torch.Tensor])
    assert_type(svd.u, torch.Tensor)
    stream = StreamingSVD()
    stream.add(TENSOR)
    assert_type(stream.left(TENSOR), torch.Tensor)
    are(torch.Tensor, gram(TENSOR), *statistics, strongest.index, svd.u, svd.s, stream.left(TENSOR))
    are(torch.Tensor, Slices()[0])


def test_out_is_of_the_same_library() -> None:
    """The negative control: strict mypy reports a comment `ignore` that nothing needs."""
    images = torch.empty(ARRAY.shape)
    gradient_magnitude(ARRAY, out=images)  # type: ignore[call-overload]
    standardized_gradient(ARRAY, out=images)  # type: ignore[call-overload]


def test_whole_numbers_of_numpy() -> None:
    svd = truncated_svd(ARRAY, np.int64(2), seed=np.uint8(3), max_passes=np.int32(4))
    assert_type(svd.method, NDArray[np.str_])
    StreamingSVD(np.int64(2)).add(ARRAY)
