"""What the files of a run must hold, by loops, NumPy, LAPACK and torch."""

import csv
import io

import numpy as np
import reference
import torch
from PIL import Image

COLUMNS = [
    *("sample", "specimen", "slice", "split", "mean", "mean_gradient", "predicted", "probability"),
    *("alpha_relu1", "alpha_relu1_maximum", "alpha_relu1_mean", "alpha_relu1_positive_mean"),
    *("alpha_relu2", "alpha_relu2_maximum", "alpha_relu2_mean", "alpha_relu2_positive_mean"),
    *(f"sigma{k}" for k in range(1, 9)),
    *("sigma2_over_sigma1", "energy1", "residual", "flag"),
]
FIGURES = {
    *("fig01", "fig02", "fig03a", "fig03b", "fig05", "fig06", "fig07d", "fig08", "fig09", "fig10", "fig11"),
    *("fig13", "overlay", "confusion"),
}
# What is the same, byte by byte, in every run with the same settings.
RESULTS = ("slices.csv", "training.csv", "metrics.json", "model.json", "model.safetensors")
# First and last slices of the stacks, and some between.
CHECKED = (0, 15, 16, 37, 63)


def rows(run):
    with (run / "slices.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def network_input(raw, preprocessing):
    """The standardised |∇Y| of one raw slice, by loops."""
    gradient = reference.gradient_magnitude(raw, preprocessing.operator)
    if preprocessing.mean is None:
        return reference.standardized(gradient)
    return (gradient - preprocessing.mean) / preprocessing.deviation


def outputs(model, raw):
    """What each layer makes of one raw slice, by layer name."""
    images = torch.tensor(network_input(raw, model.preprocessing)[None, None], dtype=torch.float32)
    found = {}
    with torch.inference_mode():
        for name, module in model.network.named_children():
            images = module(images.clone())
            found[name] = images[0].numpy()
    return found


def probabilities(logits):
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return powers / powers.sum()


def assert_sines_small(found, expected, limit=1e-4):
    """The sine of the angle between unit vectors, as the part of one across the other."""
    found, expected = found.ravel().astype(np.float64), expected.ravel()
    assert found @ expected > 0
    assert np.linalg.norm(found - (found @ expected) * expected) <= limit


def assert_is_a_picture(png):
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert 300 <= image.shape[1] <= 1200
    assert 200 <= image.shape[0] <= 3000
    colours, pixels = np.unique(image @ np.array([65536, 256, 1]), return_counts=True)
    assert len(colours) > 20
    assert pixels.max() < 0.99 * pixels.sum(), "nothing but background"
