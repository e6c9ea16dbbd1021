"""Compiled kernels for slices of X-ray CT: gradients, statistics, truncated SVD."""

from eigenfeatures.kernels.call import Backend
from eigenfeatures.kernels.channels import StrongestChannel, strongest_channel
from eigenfeatures.kernels.contrast import stretch_contrast
from eigenfeatures.kernels.gradient import gradient, gradient_magnitude, standardized_gradient
from eigenfeatures.kernels.gram import gram
from eigenfeatures.kernels.operators import MASKS, OPERATORS, Mask, Operator
from eigenfeatures.kernels.second_pass import StreamedSVD
from eigenfeatures.kernels.statistics import SliceStatistics, slice_statistics
from eigenfeatures.kernels.streaming import StreamingSVD
from eigenfeatures.kernels.svd import TruncatedSVD, truncated_svd

__all__ = [
    "MASKS",
    "OPERATORS",
    "Backend",
    "Mask",
    "Operator",
    "SliceStatistics",
    "StreamedSVD",
    "StreamingSVD",
    "StrongestChannel",
    "TruncatedSVD",
    "gradient",
    "gradient_magnitude",
    "gram",
    "slice_statistics",
    "standardized_gradient",
    "stretch_contrast",
    "strongest_channel",
    "truncated_svd",
]
