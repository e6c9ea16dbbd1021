"""Stacks of uneven lengths, and networks whose maps differ in size and stride."""

import numpy as np
import pytest
import tifffile
import torch
from threadpoolctl import threadpool_limits

from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.phantom import density_field
from eigenfeatures.eigen.preprocessing import Preprocessing
from eigenfeatures.eigen.samples import open_samples
from eigenfeatures.eigen.study.chunks import StudiedNetwork

# Two classes, three stacks. A chunk of 8 slices ends within the first two, a slice before the second ends.
LENGTHS = {"coarse.tif": 10, "fine/a.tif": 9, "fine/b.tif": 3}
SIZE = (96, 104)


@pytest.fixture(scope="session")
def uneven(tmp_path_factory):
    """Opened samples of 10 slices of one class, and of 9 and 3 of another, 96×104 pixels."""
    root = tmp_path_factory.mktemp("uneven")
    (root / "fine").mkdir()
    for number, (name, slices) in enumerate(LENGTHS.items()):
        random = np.random.default_rng(number)
        field = density_field((slices, *SIZE), 4.0 if number == 0 else 2.5, random)
        noisy = 120 + 16 * field + 3 * random.standard_normal(field.shape)
        pixels = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        tifffile.imwrite(root / name, pixels, imagej=True, metadata={"axes": "ZYX"})
    with open_samples(root) as samples:
        yield samples


@pytest.fixture(scope="session")
def networks():
    """Two of the preset 'small' and one 'alexnet', untrained, up to relu2."""
    return [
        StudiedNetwork(
            f"{preset} {seed}",
            build_network(preset, 2, SIZE, seed).eval().up_to("relu2"),
            Preprocessing("sobel"),
        )
        for preset, seed in (("small", 0), ("small", 1), ("alexnet", 0))
    ]


@pytest.fixture(scope="session")
def cpu():
    return torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def _one_thread_of_blas():
    """As the command does: on a busy machine, threads of small products wait longer than they compute."""
    with threadpool_limits(1, "blas"):
        yield
