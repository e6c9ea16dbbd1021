"""The script that a user would write: from a TIFF to classes, statistics, α and eigenfeatures.

Each step by the library that most would take for it: scikit-image, NumPy, PyTorch with a hook. Slices
go through the network in batches, as many at once as ours takes.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH = 4

Array = NDArray[Any]


def script(path: Path, network: Any) -> dict[str, Array]:
    """Return arrays by name, one entry a slice, for a network in evaluation mode."""
    import tifffile
    import torch
    from skimage.filters import sobel

    captured = {}
    hook = network.relu2.register_forward_hook(
        lambda _module, _inputs, output: captured.update(relu2=output.detach())
    )
    slices = tifffile.imread(path)
    found: dict[str, list[Any]] = {
        name: [] for name in ("mean", "mean_gradient", "probabilities", "alpha_index", "eigenfeatures")
    }
    for start in range(0, len(slices), BATCH):
        batch = slices[start : start + BATCH].astype(np.float32)
        # scikit-image divides its masks by 4 and the magnitude by √2.
        gradients = np.stack([sobel(image) for image in batch]) * np.float32(4 * np.sqrt(2))
        means = gradients.mean(axis=(1, 2), keepdims=True)
        inputs = (gradients - means) / gradients.std(axis=(1, 2), keepdims=True)
        with torch.no_grad():
            logits = network(torch.from_numpy(inputs)[:, None])
        found["mean"].extend(batch.mean(axis=(1, 2)))
        found["mean_gradient"].extend(means[:, 0, 0])
        found["probabilities"].extend(torch.softmax(logits, 1).numpy())
        for maps in captured["relu2"].numpy():
            found["alpha_index"].append(maps.max(axis=(1, 2)).argmax())
            u, _, _ = np.linalg.svd(maps.reshape(len(maps), -1).T, full_matrices=False)
            eigenfeature = u[:, 0].reshape(maps.shape[1:])
            found["eigenfeatures"].append(eigenfeature * np.sign(eigenfeature.sum()))
    hook.remove()
    return {name: np.array(values) for name, values in found.items()}
