"""What "clearer" means: repeatability and contrast-to-noise of a run's maps along a stack.

The paper calls eigenfeatures clearer than the strongest channel, by eye. Both measures here were
fixed before any map was measured. They rest on one thing: neighbouring slices of a stack show
almost the same structure, so that what two neighbours share is taken for signal and what they
don't for noise.

Neither sees what is wrong in both slices alike, such as noise that the reconstruction correlates
along the stack. Both rise when a map is merely blurred, or when slices are closer. They compare
maps of the same slices on the same grid, and are to be read beside those of a smoothed gradient.
"""

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.study.similarity import ROUNDING, Array, Maps, has_contrast, pearson, top_pixels


def repeatability(maps: Maps) -> Array:
    """Correlate (Pearson) the maps of neighbouring slices.

    Parameters
    ----------
    maps
        ``(slices, h, w)``, of consecutive slices of one stack.

    Returns
    -------
    ndarray
        ``(slices - 1,)`` float64, -1 to 1; NaN where either map has no contrast or isn't finite.
    """
    return pearson(maps[:-1], maps[1:])


def contrast_to_noise(maps: Maps) -> Array:
    """Compare the contrast of the structure with the noise, for neighbouring slices.

    Maps are scaled to unit root mean square. The structure is where the *other* slice of the two
    has its brightest tenth of pixels, so that noise can't select itself. Contrast is the mean of
    the map there less its mean elsewhere, averaged over both directions. Noise is the standard
    deviation of the difference of the two maps, divided by √2 for what one map has of it.

    Parameters
    ----------
    maps
        ``(slices, h, w)``, of consecutive slices of one stack.

    Returns
    -------
    ndarray
        ``(slices - 1,)`` float64, about 0 for maps that have nothing in common; inf where the two
        maps are equal, NaN where either has no contrast or isn't finite.
    """
    slices = len(maps)
    good = has_contrast(maps)
    pixels = np.where(good[:, None], maps.reshape(slices, -1).astype(np.float64), np.nan)
    pixels = pixels / np.sqrt((pixels**2).mean(1, keepdims=True))
    zone = top_pixels(maps).reshape(slices, -1)
    contrast = (_contrast(pixels[:-1], zone[1:]) + _contrast(pixels[1:], zone[:-1])) / 2
    noise = np.diff(pixels, axis=0).std(1) / np.sqrt(2)
    with np.errstate(divide="ignore"):
        return np.asarray(contrast / np.where(noise <= ROUNDING, 0, noise))


def _contrast(pixels: Array, zone: NDArray[np.bool_]) -> Array:
    inside = pixels.mean(1, where=zone)
    outside = pixels.mean(1, where=~zone)
    return np.asarray(inside - outside)
