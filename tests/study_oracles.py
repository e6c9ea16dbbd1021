"""What a study measures on one slice, said again by NumPy, SciPy and scikit-image: no chunk, no cache."""

import math

import numpy as np
import torch
from scipy import linalg, ndimage, stats
from skimage.metrics import structural_similarity

from eigenfeatures.eigen.responses import responses
from eigenfeatures.eigen.study.chunks import SCALES


@torch.inference_mode()
def response_maps(entry, image, layer="relu2", resolution="pooled"):
    """Response maps (C, h, w) of one raw slice; pooled ones by the modules one after the other."""
    found = torch.from_numpy(entry.preprocessing(image[None]))[:, None]
    if resolution == "dense":
        return responses(entry.network, found, [layer], "dense")[layer][0].double().numpy()
    for name, module in entry.network.named_children():
        found = module(found)
        if name == layer:
            break
    return found[0].double().numpy()


def singular(maps, center=False):
    """Left singular vectors as maps (k, h, w), and singular values; u₁ points to positive pixels."""
    columns = maps.reshape(len(maps), -1).T
    if center:
        columns = columns - columns.mean(0)
    u, s, _ = np.linalg.svd(columns, full_matrices=False)
    vectors = u.T.reshape(-1, *maps.shape[1:])
    if vectors[0].sum() < 0:
        vectors[0] *= -1
    return vectors, s


def strongest(maps):
    """The channel that holds the largest pixel (eq. 13)."""
    return max(maps, key=np.max)


def on_grid(image, source, target):
    """Gaussian-weighted mean around each pixel of a coarser grid."""
    if source == target:
        return np.asarray(image, np.float64)
    weights = []
    for source_side, target_side in zip(source.shape, target.shape, strict=True):
        away = (
            target.offset
            + target.stride * np.arange(target_side)[:, None]
            - source.offset
            - source.stride * np.arange(source_side)
        )
        gaussian = np.exp(-((2 * away / target.stride) ** 2) / 2)
        weights.append(gaussian / gaussian.sum(1, keepdims=True))
    return weights[0] @ image @ weights[1].T


def gradient_images(image):
    """|∇Y| by Prewitt's masks, smoothed at every scale (scales, H, W)."""
    pixels = image.astype(np.float64)
    magnitude = np.hypot(*(ndimage.prewitt(pixels, axis, mode="nearest") for axis in (0, 1)))
    return np.array([ndimage.gaussian_filter(magnitude, scale) if scale else magnitude for scale in SCALES])


def top_tenth(image):
    """Numbers of the largest tenth of the pixels, rounded up."""
    order = np.argsort(-image.ravel(), kind="stable")
    return set(order[: math.ceil(image.size / 10)].tolist())


def alike(a, b):
    """The five measures of two maps."""
    x, y = a.ravel(), b.ravel()
    p, q = (image / np.sqrt((image**2).mean()) for image in (a, b))
    shared, either = top_tenth(a) & top_tenth(b), top_tenth(a) | top_tenth(b)
    return {
        "cosine": x @ y / np.linalg.norm(x) / np.linalg.norm(y),
        "pearson": stats.pearsonr(x, y)[0],
        "spearman": stats.spearmanr(x, y)[0],
        "iou": len(shared) / len(either),
        "ssim": structural_similarity(
            p, q, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            data_range=max(np.ptp(p), np.ptp(q)),
        ),
    }  # fmt: skip


def fit(image, images):
    """Least-squares fit of images and a constant to a map, as a vector of pixels."""
    design = np.column_stack([np.ones(image.size), *(one.ravel() for one in images)])
    return design @ np.linalg.lstsq(design, image.ravel())[0]


def beyond(a, b, images):
    """Correlation of what a least-squares fit of images and a constant leaves of two maps."""
    return stats.pearsonr(*(image.ravel() - fit(image, images) for image in (a, b)))[0]


def explained(image, images):
    """Correlation of a map with its least-squares fit."""
    return stats.pearsonr(image.ravel(), fit(image, images))[0]


def angles(a, b):
    """Principal angles in degrees between the spans of maps (k, h, w), ascending."""
    return np.degrees(linalg.subspace_angles(*(maps.reshape(len(maps), -1).T for maps in (a, b))))[::-1]


def contrast_to_noise(a, b):
    """Of two neighbouring slices' maps, as docs/study/definitions.md words it."""
    p, q = (image / np.sqrt((image**2).mean()) for image in (a, b))
    contrast = []
    for own, other in ((p, q), (q, p)):
        zone = np.isin(np.arange(own.size), list(top_tenth(other))).reshape(own.shape)
        contrast.append(own[zone].mean() - own[~zone].mean())
    return np.mean(contrast) / (np.std(p - q) / np.sqrt(2))
