"""What a reader sees in each figure and table of the report, in two sentences each."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Caption(NamedTuple):
    """Heading of a section, and the two sentences below it."""

    title: str
    text: str


CAPTIONS: Mapping[str, Caption] = MappingProxyType(
    {
        "typical_slices": Caption(
            "Typical slices (Fig. 1)",
            "Each image is a typical slice of a sample (its mean |∇Y| is the nearest to the median of the "
            "sample) as the instrument recorded it, all on one grey scale on which at most 0.5 % of the "
            "pixels of an image are clipped at either end. Where grey values stand for electron density, "
            "bright is a high one; where samples were scanned with different settings, part of what differs "
            "here is the instrument and not the material.",
        ),
        "whole_slice_and_sections": Caption(
            "Whole slice, cut-outs and sections (Fig. 2)",
            "Above is a whole slice with any rectangles that were cut out of it, below are three sections "
            "at right angles through the centre of a stack, all on one grey scale. The rectangles should "
            "hold material only, and a section that looks different along z than along x and y points to "
            "uneven slice spacing, drift or a material that has a direction.",
        ),
        "slice_mean": Caption(
            "Mean grey value (Fig. 3a)",
            "The line follows the mean grey value from slice to slice, with the samples one after the other "
            "and a dashed line at the mean of each. A trend along a sample is a gradient of density or a "
            "drift of the instrument; a sample that can be told by this mean alone needs no network.",
        ),
        "slice_gradient": Caption(
            "Mean gradient magnitude (Fig. 3b)",
            "The line follows the mean of |∇Y| from slice to slice, which measures how much grey value "
            "changes from pixel to pixel; its size depends on the gradient operator, so compare it within one"
            " run only. The paper relates a large value to good mechanical performance in epoxy resins; noise"
            " of the instrument raises it too.",
        ),
        "operator_comparison": Caption(
            "Gradient operators (Fig. 5)",
            "The images show |∇Y| of one slice, by the difference of two neighbouring pixels and by masks "
            "that also average across the direction of the derivative and so suppress noise. The masks "
            "differ in scale, so each image is stretched on its own (1 % of the pixels clipped at either "
            "end) and brightness can't be compared between them.",
        ),
        "training_progress": Caption(
            "Training progress (Fig. 6)",
            "The thin line is the batch that was being learned from, the thick line its moving mean, and "
            "the markers are the slices that were held out; accuracy is above and loss below. A validation "
            "loss that rises while the training loss falls means that the network is learning its training "
            "slices by heart.",
        ),
        "training_progress_compared": Caption(
            "Training progress of the compared run (Fig. 12)",
            "The same curves for the run that this one is compared with. The paper takes a smaller network "
            "that reaches the same accuracy as a sign that the large one does not overfit.",
        ),
        "confusion_matrix": Caption(
            "Which sample is taken for which",
            "Each row shares out the validation slices of one true sample among the samples that the "
            "network predicted; correct answers lie on the diagonal. Two samples that are often exchanged "
            "look alike to the network, whatever its overall accuracy.",
        ),
        "class_metrics": Caption(
            "Precision and recall",
            "Precision is the share of the slices given to a sample that do belong to it, recall the share "
            "of the slices of a sample that are found; both count validation slices only, and neighbouring "
            "slices resemble each other, so that they vary more from one specimen to the next than the "
            "number of slices suggests. Likeness is the correlation of |∇Y| between a validation slice and "
            "the most alike training slice of its stack, as a mean over eight validation slices at most; the "
            "higher it is, the less does recognising them say of other material.",
        ),
        "singular_value_decay": Caption(
            "Decay of the singular values (Fig. 7d)",
            "Left are the singular values of the response maps, which are not centred, relative to the "
            "first, right the share of their squared sum that the first k of them hold; lines are medians "
            "over slices and bands span the middle half. After a ReLU no response is negative, and "
            "rectified white noise in 128 maps of 133×133 has σ₁²/‖X‖² of 0.32 and σ₂/σ₁ of 0.14, with u₁ "
            "at the mean map, so that neither tells structure by itself; where σ₂ comes close to σ₁ the "
            "eigenfeature is ill-determined, and such slices carry a flag in slices.csv.",
        ),
        "response_montage": Caption(
            "Response maps of all channels (Fig. 8)",
            "Each small image is the answer of one channel of the network to the same slice, and a uniform "
            "one is a channel that doesn't answer. Each is stretched on its own with 1 % of its pixels "
            "clipped at either end, which is for the eye only: all computations use the original "
            "activations.",
        ),
        "gradient_and_channels": Caption(
            "The strongest channel, layer by layer (Fig. 9)",
            "Left is the |∇Y| image, right the channel α that holds the largest activation of each layer, "
            "each image with its own scale. The first layer mostly repeats |∇Y|, and deeper ones pick out "
            "the zones where it is concentrated.",
        ),
        "channel_activation": Caption(
            "Activation of the strongest channel (Fig. 10)",
            "The lines follow the mean of the positive activations of channel α from slice to slice, at two "
            "depths of the network; dashed lines are the means of the samples, and what the network sees is "
            "standardised slice by slice (unless by the training set), so that a sample's contrast as such "
            "is not in them. The paper finds the order of the samples by mechanical performance here, but "
            "activations have no unit and α may be another channel in another slice or another training, so "
            "trust an order only if it returns with other seeds.",
        ),
        "strongest_channels": Caption(
            "Strongest channel of every sample (Fig. 11)",
            "Each row is a sample, with |∇Y| of a typical slice and its channel α; each column has one "
            "intensity scale, so strength can be compared down a column, but what the network sees is "
            "standardised slice by slice (unless by the training set), so that a sample's contrast as such "
            "is not in it. Channel α depends on the initial weights of the network, and a further column, "
            "if any, comes from the compared run, whose scale is its own.",
        ),
        "eigenfeatures": Caption(
            "Eigenfeatures (Fig. 13)",
            "Each row is a sample, with |∇Y| of a typical slice and its eigenfeature u₁, the image that "
            "best stands for all channels at once: bright zones are what the network responds to, and "
            "another seed may give another u₁. The stored u₁ has unit norm and so carries no strength; the "
            "pictures show σ₁u₁/√C, with C channels, on one scale down each column, which does, but what "
            "the network sees is standardised slice by slice (unless by the training set), so that a "
            "sample's contrast as such is not in it.",
        ),
        "overlay": Caption(
            "Eigenfeatures over the raw slices",
            "Orange marks where the eigenfeature is strong, on the raw slice in grey; both have one scale "
            "for all samples. A pixel of a pooled response covers several pixels of the slice and its "
            "filters see further still, so read zones and not outlines.",
        ),
        "settings": Caption(
            "Settings",
            "These are all the settings of the run, with a dash where none was set. The same settings, "
            "inputs and seed on "
            "the same processor give the same slices.csv, byte for byte.",
        ),
        "versions": Caption(
            "Versions and device",
            "These are the device and the versions of the libraries that the run used. Another device or "
            "another version of torch may change results in their last digits, and training can amplify "
            "such changes.",
        ),
    }
)
"""Name of a figure or table to its heading and text."""

NOTES: Mapping[str, str] = MappingProxyType(
    {
        "random": (
            "The validation slices were drawn at random from every stack. Neighbouring slices are nearly "
            "equal, so most validation slices have a near-copy among the training slices: the accuracy "
            "shows that slices are recognised, not that unseen material would be, and is best read beside "
            "that of a block split."
        ),
        "block": (
            "The validation slices are one contiguous block of every stack, apart from the training slices "
            "by a guard gap that was used for nothing and ends at the first distance at which slices no "
            "longer correlate, or at 15 % of the stack on each side. That keeps neighbouring slices apart, "
            "but not those of a stack that repeats itself: the likeness in the table below is what was "
            "measured. Both parts come from the same scan: what is peculiar to a scan can still tell samples "
            "apart."
        ),
        "specimen": (
            "The validation slices come from specimens of which no slice was trained on. This is the "
            "strictest of the splits, and the one that tells how a new specimen of the same material would "
            "be classified."
        ),
        "alexnet": (
            "This network has Krizhevsky's layers for one channel, trained from scratch on these slices and "
            "not pretrained on photographs. Batch normalisation after every convolution stands in place of "
            "local response normalisation, without which training stays at chance."
        ),
        "phantom": (
            "These samples are simulated density fields with simulated noise. Nothing in this report was "
            "measured."
        ),
    }
)
"""Remarks that go with a split, a network or a kind of data, by its name."""
