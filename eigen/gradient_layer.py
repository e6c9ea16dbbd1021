"""The preprocessing as a torch module, so that an exported graph starts at the raw slice.

The arithmetic is that of `eigenfeatures.kernels.gradient_magnitude`: differences
first, then smoothing, with replicated borders, all in float32.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from eigenfeatures.eigen.preprocessing import Preprocessing
from eigenfeatures.kernels import MASKS


class StandardizedGradient(nn.Module):
    """Raw slices ``(N, H, W)`` of any real dtype to standardised |∇Y|, ``(N, 1, H, W)`` float32."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing

    def forward(self, slices: Tensor) -> Tensor:
        """Differentiate and standardise."""
        images = slices.to(torch.float32)[:, None]
        padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
        side, centre, one_sided = MASKS[self.preprocessing.operator]
        if one_sided:
            along_rows = centre * (padded[..., 2:, 1:-1] - images)
            along_columns = centre * (padded[..., 1:-1, 2:] - images)
        else:
            rows = padded[..., 2:, :] - padded[..., :-2, :]
            columns = padded[..., :, 2:] - padded[..., :, :-2]
            along_rows = side * (rows[..., :-2] + rows[..., 2:]) + centre * rows[..., 1:-1]
            along_columns = (
                side * (columns[..., :-2, :] + columns[..., 2:, :]) + centre * columns[..., 1:-1, :]
            )
        return self._standardize(torch.sqrt(along_rows * along_rows + along_columns * along_columns))

    def _standardize(self, gradient: Tensor) -> Tensor:
        if self.preprocessing.mean is not None and self.preprocessing.deviation is not None:
            return (gradient - self.preprocessing.mean) / self.preprocessing.deviation
        mean = _mean(gradient)
        centred = gradient - mean
        deviation = torch.sqrt(_mean(centred * centred))
        # A constant slice gives zeros, as the kernel does.
        varies = deviation > 1e-6 * mean
        return torch.where(varies, centred / torch.where(varies, deviation, 1.0), 0.0)


def _mean(images: Tensor) -> Tensor:
    """Average rows first: one float32 sum over a slice of 2048² is off by 4e-4 in ONNX Runtime."""
    return images.mean(-1, keepdim=True).mean(-2, keepdim=True)
