"""Compiled kernels for slices of X-ray CT: gradients, statistics, truncated SVD."""

from eigenfeatures.kernels.channels import StrongestChannel, strongest_channel
from eigenfeatures.kernels.contrast import stretch_contrast
from eigenfeatures.kernels.gradient import gradient, gradient_magnitude, standardized_gradient
from eigenfeatures.kernels.operators import MASKS, OPERATORS, Mask, Operator
from eigenfeatures.kernels.statistics import SliceStatistics, slice_statistics
from eigenfeatures.kernels.svd import TruncatedSVD, truncated_svd

__all__ = [
    "MASKS",
    "OPERATORS",
    "Mask",
    "Operator",
    "SliceStatistics",
    "StrongestChannel",
    "TruncatedSVD",
    "gradient",
    "gradient_magnitude",
    "slice_statistics",
    "standardized_gradient",
    "stretch_contrast",
    "strongest_channel",
    "truncated_svd",
]
