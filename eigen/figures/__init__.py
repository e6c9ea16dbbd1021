"""The pictures of the paper and of a study, as pure functions from arrays to a matplotlib figure."""

from eigenfeatures.eigen.figures.along_stack import channel_activation, slice_means
from eigenfeatures.eigen.figures.captions import CAPTIONS, NOTES, Caption
from eigenfeatures.eigen.figures.comparison import overlay, sample_grid
from eigenfeatures.eigen.figures.confusion import confusion_matrix
from eigenfeatures.eigen.figures.intervals import IntervalRow, interval_plot
from eigenfeatures.eigen.figures.leakage import leakage_bars
from eigenfeatures.eigen.figures.operators import operator_comparison
from eigenfeatures.eigen.figures.order import order_plot
from eigenfeatures.eigen.figures.panels import Placement
from eigenfeatures.eigen.figures.responses import gradient_and_channels, response_montage
from eigenfeatures.eigen.figures.sections import Sections, whole_slice_and_sections
from eigenfeatures.eigen.figures.seed_panel import seed_panel
from eigenfeatures.eigen.figures.similarity_matrix import similarity_matrix
from eigenfeatures.eigen.figures.slices import typical_slices
from eigenfeatures.eigen.figures.spectrum import singular_value_decay
from eigenfeatures.eigen.figures.study_captions import STUDY_CAPTIONS
from eigenfeatures.eigen.figures.style import figure_png
from eigenfeatures.eigen.figures.training import training_progress
from eigenfeatures.eigen.figures.training_curve import training_curve
from eigenfeatures.eigen.figures.violins import similarity_violins

__all__ = [
    "CAPTIONS",
    "NOTES",
    "STUDY_CAPTIONS",
    "Caption",
    "IntervalRow",
    "Placement",
    "Sections",
    "channel_activation",
    "confusion_matrix",
    "figure_png",
    "gradient_and_channels",
    "interval_plot",
    "leakage_bars",
    "operator_comparison",
    "order_plot",
    "overlay",
    "response_montage",
    "sample_grid",
    "seed_panel",
    "similarity_matrix",
    "similarity_violins",
    "singular_value_decay",
    "slice_means",
    "training_curve",
    "training_progress",
    "typical_slices",
    "whole_slice_and_sections",
]
