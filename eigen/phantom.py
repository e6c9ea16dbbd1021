"""Synthetic stacks of the paper's shape, for demonstrations and tests where no CT data are at hand.

Physics-shaped, never measured: the density of each sample is an isotropic
random field with one length scale, as in the linear theory of phase separation
(Cahn 1965), which is how mesoscopic inhomogeneity arises in a curing resin. The
field u has zero mean, unit variance and the autocorrelation

    C(r) = (1 − r²/3ℓ²) exp(−r²/2ℓ²),        power spectrum ∝ k² exp(−k²ℓ²/2),

with the correlation length ℓ; it is band-limited, so a slice's mean tells
little. The slice is recorded as grey values

    g = mean + contrast·u + blur(Poisson(N g)/N − g + detector noise),

where the blur is the reconstruction's and N the photons a grey level. The field
is cut from a larger periodic one, so opposite faces aren't correlated.

References
----------
J. W. Cahn, "Phase separation by spinodal decomposition in isotropic systems",
J. Chem. Phys. 42 (1965) 93.
"""

import json
import math
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from tifffile import imwrite

from eigenfeatures.eigen.errors import InputError, whole_number
from eigenfeatures.eigen.progress import Track, silent

VOXEL_EDGE = 2.0
"""Edge of a voxel in micrometres, as in the paper (section 2.1)."""

_SMALLEST = 8

Layout = Literal["folders", "stacks"]


@dataclass(frozen=True)
class Material:
    """One sample of a phantom.

    Attributes
    ----------
    correlation_length : float
        ℓ in voxels.
    contrast : float
        Standard deviation of the density, in grey levels.
    mean : float
        Mean grey level, from 0 to 255.
    """

    correlation_length: float
    contrast: float
    mean: float


@dataclass(frozen=True)
class Noise:
    """Noise of one slice.

    Attributes
    ----------
    photons : float
        N, photons that make one grey level.
    detector : float
        Standard deviation of the additive Gaussian noise, in grey levels.
    """

    photons: float = 2.0
    detector: float = 4.0


EPOXY_LIKE = (
    Material(correlation_length=4.0, contrast=14.0, mean=118.0),
    Material(correlation_length=3.5, contrast=16.0, mean=124.0),
    Material(correlation_length=2.5, contrast=20.0, mean=112.0),
    Material(correlation_length=5.0, contrast=13.0, mean=110.0),
)
"""Four samples that stand apart as the paper's do: grey levels in the order of the densities of its
Table 1, and the largest mean |∇Y| in sample 3 (Fig. 3)."""

TEN_PERCENT_APART = tuple(Material(2.5 * 1.1**step, contrast=16.0, mean=116.0) for step in range(4))
"""The hard case: only the correlation length differs, by 10 % from one sample to the next."""


def make_phantom(
    folder: str | Path,
    materials: Sequence[Material] = EPOXY_LIKE,
    *,
    slices: int = 266,
    size: int = 266,
    noise: Noise = Noise(),
    seed: int = 0,
    layout: Layout = "folders",
    track: Track = silent,
) -> Path:
    """Write a folder of synthetic samples, whole or not at all.

    Parameters
    ----------
    folder : path
        Where to; absent or empty. Each sample becomes `sample1/slice_0.tif`
        ... or `sample1.tif`; `README.txt` says that they are synthetic, with
        all parameters.
    materials : sequence of Material, optional
        One a sample: `EPOXY_LIKE` by default, `TEN_PERCENT_APART` for the hard case.
    slices, size : int, optional
        Each sample has `slices` × `size` × `size` voxels of 2 µm, uint8.
    noise : Noise, optional
        The same for all samples.
    seed : int, optional
        The same seed gives the same bytes.
    layout : {"folders", "stacks"}, optional
        One TIFF a slice, as the paper's data, or one multi-page TIFF a sample.
    track : Track, optional
        Called with the samples, to show progress.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        The folder holds something, a size is too small, or an argument can't be used.
    """
    folder = Path(folder)
    slices, size = whole_number(slices, "slices"), whole_number(size, "size")
    seed = whole_number(seed, "seed")
    if seed < 0:
        raise InputError(f"seed {seed}: must be at least 0")
    if layout not in get_args(Layout):
        raise InputError(f"layout {layout!r}: must be 'folders' or 'stacks'")
    if slices < 1 or size < _SMALLEST:
        raise InputError(
            f"a phantom of {slices} slices of {size}×{size}: at least 1 of {_SMALLEST}×{_SMALLEST}"
        )
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder}: exists and isn't empty; name a new folder for the phantom")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    temporary.mkdir()
    try:
        numbered = list(enumerate(materials, start=1))
        for number, material in track(numbered, "making the phantom", len(numbered)):
            rng = np.random.default_rng([seed, number])
            images = np.stack(list(_record((slices, size, size), material, noise, rng)))
            _write(temporary / f"sample{number}", images, layout)
        parameters = {
            "slices": slices,
            "size": size,
            "seed": seed,
            "noise": asdict(noise),
            "materials": [asdict(material) for material in materials],
        }
        (temporary / "README.txt").write_text(
            _README + json.dumps(parameters, indent=2) + "\n", encoding="utf-8"
        )
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


SYNTHETIC = "Synthetic data, not measured by any instrument."
"""How a phantom's README.txt begins."""

_README = f"""{SYNTHETIC}

Random density fields with X-ray noise, made by eigenfeatures.eigen.phantom, whose documentation
states the model. Voxels of 2 micrometres, 8-bit. Parameters (lengths in voxels, others in grey levels):

"""


def density_field(
    shape: tuple[int, int, int], correlation_length: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw an isotropic random field of zero mean and unit variance with C(r) of this module.

    Parameters
    ----------
    shape : (int, int, int)
        Slices, height, width.
    correlation_length : float
        ℓ in voxels.
    rng : numpy.random.Generator
        Source of the randomness.

    Returns
    -------
    ndarray, shape `shape`, float32
    """
    # The FFT's field is periodic: 6ℓ beyond the cut part, C(r) is below 1e-6. Multiples of 16 transform fast.
    margin = math.ceil(6 * correlation_length)
    periodic = [16 * math.ceil((length + margin) / 16) for length in shape]
    spectrum = np.fft.rfftn(rng.standard_normal(periodic, np.float32))
    depth, height, width = (2 * np.pi * np.fft.fftfreq(length).astype(np.float32) for length in periodic)
    width = np.abs(width[: spectrum.shape[2]])
    squared = depth[:, None, None] ** 2 + height[:, None] ** 2 + width**2
    spectrum *= np.sqrt(squared) * np.exp(squared * np.float32(-(correlation_length**2) / 4))
    field = np.fft.irfftn(spectrum, periodic, axes=(0, 1, 2))[tuple(slice(length) for length in shape)]
    deviation = field.std(dtype=np.float64)
    standardised: NDArray[np.float32] = ((field - field.mean(dtype=np.float64)) / deviation).astype(
        np.float32
    )
    return standardised


def _record(
    shape: tuple[int, int, int], material: Material, noise: Noise, rng: np.random.Generator
) -> Iterator[NDArray[np.uint8]]:
    """Yield the slices as the scanner would: with photon and detector noise, in 8 bits."""
    for density in density_field(shape, material.correlation_length, rng):
        ideal = np.maximum(material.mean + material.contrast * density, 0)
        shot = rng.poisson(noise.photons * ideal) / noise.photons - ideal
        grey = ideal + _blur(shot + noise.detector * rng.standard_normal(ideal.shape))
        yield np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def _blur(image: NDArray[Any]) -> NDArray[Any]:
    """Smooth by (1, 2, 1)/4 along both axes: the apodisation of a reconstruction, in its simplest form."""
    padded = np.pad(image, 1, mode="edge")
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    return np.asarray((rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4)


def _write(path: Path, images: NDArray[np.uint8], layout: Layout) -> None:
    """Write ImageJ TIFFs that state the voxel size; names aren't padded, so they need the natural order."""
    metadata = {"unit": "micron", "spacing": VOXEL_EDGE}
    resolution = (1 / VOXEL_EDGE, 1 / VOXEL_EDGE)
    if layout == "stacks":
        axes = metadata | {"axes": "ZYX"}
        imwrite(path.with_suffix(".tif"), images, imagej=True, resolution=resolution, metadata=axes)
        return
    path.mkdir()
    for number, image in enumerate(images):
        imwrite(path / f"slice_{number}.tif", image, imagej=True, resolution=resolution, metadata=metadata)
