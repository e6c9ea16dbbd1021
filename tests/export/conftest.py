"""What the tests of finished runs compare with."""

import numpy as np
import pytest
import tifffile

from eigenfeatures.eigen.model_file import load_model


@pytest.fixture(scope="module")
def raw(stacks):
    """All raw slices in the order of `slices.csv`, read by tifffile alone."""
    return np.concatenate([tifffile.imread(stacks / f"sample{k}.tif") for k in (1, 2, 3, 4)])


@pytest.fixture(scope="module")
def model(finished_run):
    return load_model(finished_run)
