"""The pictures of the paper, as pure functions from arrays to a matplotlib figure."""

from eigenfeatures.eigen.figures.along_stack import channel_activation, slice_means
from eigenfeatures.eigen.figures.captions import CAPTIONS, NOTES, Caption
from eigenfeatures.eigen.figures.comparison import overlay, sample_grid
from eigenfeatures.eigen.figures.confusion import confusion_matrix
from eigenfeatures.eigen.figures.operators import operator_comparison
from eigenfeatures.eigen.figures.responses import gradient_and_channels, response_montage
from eigenfeatures.eigen.figures.sections import Sections, whole_slice_and_sections
from eigenfeatures.eigen.figures.slices import typical_slices
from eigenfeatures.eigen.figures.spectrum import singular_value_decay
from eigenfeatures.eigen.figures.style import figure_png
from eigenfeatures.eigen.figures.training import training_progress

__all__ = [
    "CAPTIONS",
    "NOTES",
    "Caption",
    "Sections",
    "channel_activation",
    "confusion_matrix",
    "figure_png",
    "gradient_and_channels",
    "operator_comparison",
    "overlay",
    "response_montage",
    "sample_grid",
    "singular_value_decay",
    "slice_means",
    "training_progress",
    "typical_slices",
    "whole_slice_and_sections",
]
