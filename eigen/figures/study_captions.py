"""What a reader sees in each figure of a study, in two sentences each."""

from collections.abc import Mapping
from types import MappingProxyType

from eigenfeatures.eigen.figures.captions import Caption

STUDY_CAPTIONS: Mapping[str, Caption] = MappingProxyType(
    {
        "similarity_violins": Caption(
            "Are the features stable? u₁ against α",
            "Each violin shows how similar the maps of one slice are in two runs, over all slices and pairs "
            "of runs, by several measures; the thick bar spans the middle half and the white point is the "
            "median, whose number stands above. Cosine flatters maps without negative values, so read the "
            "other measures first; violins show the spread and not the uncertainty, since neither slices "
            "nor pairs of runs are independent.",
        ),
        "similarity_matrix_u1": Caption(
            "Which runs agree: u₁",
            "Each cell is the mean similarity over all slices of u₁ in two runs, with the runs of one "
            "network next to each other between white lines. Blocks on the diagonal compare seeds of one "
            "network, blocks beside it compare networks, whose maps were resampled to the coarser grid of "
            "the two; hatched runs had too low a validation accuracy.",
        ),
        "similarity_matrix_alpha": Caption(
            "Which runs agree: channel α",
            "The same as above for the strongest channel α of each slice, on the same scale of colours. "
            "Where its blocks are darker than those of u₁, the eigenfeature depends less on the initial "
            "weights than a single channel does.",
        ),
        "subspaces": Caption(
            "Leading subspaces",
            "Each point is the mean angle between the subspaces that the leading singular vectors span in "
            "two runs, with its 95 % interval over seeds and blocks of slices: 0° is the same subspace, 90° "
            "one with nothing in common. Where a larger subspace agrees better than u₁ alone, the runs "
            "found the same images but ordered or mixed them otherwise.",
        ),
        "agreement": Caption(
            "Does u₁ agree with the strongest channel?",
            "Each point compares u₁ with channel α of the same slice in the same run, with its 95 % "
            "interval over seeds and blocks of slices. A value near 1 means that u₁ shows what the strongest "
            "channel shows.",
        ),
        "clarity": Caption(
            "Is u₁ clearer?",
            "Repeatability is the correlation of the maps of neighbouring slices, contrast-to-noise the "
            "contrast between the brightest tenth, chosen on the neighbour, and the rest, over the noise "
            "that two neighbours don't share; bars are 95 % intervals over seeds and blocks of slices. "
            "Material changes from slice to slice too, so compare u₁ with α of the same slices and not one "
            "sample with another.",
        ),
        "null_models": Caption(
            "Similarity between seeds, trained networks and null models",
            "Each point is the mean Pearson correlation of the maps of a slice in two runs; bars are 95 %"
            " intervals over seeds and blocks of slices. Where a null model comes as high as the trained"
            " networks, that stability belongs to the image and the architecture and not to what was"
            " learned; what slices of other samples have in common belongs to neither.",
        ),
        "null_models_closeness": Caption(
            "How well blurred gradient images fit the maps",
            "Each point is the mean correlation of a map with the sum of blurred gradient images of its"
            " slice that fits it best. A map that this fits well says little that filtering the image"
            " would not.",
        ),
        "null_models_before_and_after": Caption(
            "Trained networks against null models",
            "Each point is the mean Pearson correlation of the maps of a slice in a trained network and"
            " in a null model, of the same seed (the same initial weights) and of others. Where runs of"
            " one seed agree far better than others, u₁ is still that of the initial weights.",
        ),
        "gradient_image": Caption(
            "How close are the maps to the gradient image?",
            "Each point is the mean correlation of a map with |∇Y| of the same slice, blurred by a Gaussian"
            " whose deviation is given in pixels of the slice, and with the sum of all blurs that fits it"
            " best (which has no sign); bars are 95 % intervals over seeds and blocks of slices. A map that"
            " is close to a blurred gradient image says little that filtering the image would not.",
        ),
        "settings_compared": Caption(
            "Similarity between seeds by setting",
            "Each point is the mean similarity between seeds under one setting, with its 95 % interval over "
            "seeds and blocks of slices. The text above says which settings a paired test tells apart "
            "from the best; the most stable one needn't be the one that tells most about the material.",
        ),
        "side_claims": Caption(
            "The paper's side claims",
            "Each point is the mean similarity between seeds with one factor changed: augmentation, batch "
            "size or the mean that slices are centred on; bars are 95 % intervals over seeds and blocks of "
            "slices. Whether a factor changes u₁ goes by paired differences, which the text above gives.",
        ),
        "training_curve": Caption(
            "When to stop training",
            "Above is the similarity between seeds at several points of training, with bands that are 95 % "
            "intervals over seeds and blocks of slices; below is the validation accuracy of the same "
            "networks. Where the curves above are level, further training changes the maps of a seed no "
            "more towards those of the others.",
        ),
        "seeds_eigenfeatures": Caption(
            "Eigenfeatures by seed (Fig. 13)",
            "Each row is a sample, with |∇Y| of a typical slice and u₁ of the same slice in several runs, "
            "on one scale. Columns that look alike mean that the eigenfeature does not depend on the "
            "initial weights; each map is scaled to unit root mean square, so strength can't be compared.",
        ),
        "seeds_strongest_channels": Caption(
            "Strongest channels by seed (Fig. 11)",
            "The same slices as above, each with the channel α of several runs, on one scale. Each map is "
            "scaled to unit root mean square; a map that is dark but for a few bright spots is a channel "
            "that answers to little of the slice.",
        ),
        "discrimination": Caption(
            "Do eigenfeatures tell the samples apart by themselves?",
            "Each point is the share of slices that a linear classifier gives to the right sample from simple"
            " descriptors of one kind of image; maps come from networks that were taught these very samples,"
            " so that for them only the validation part counts, and cross-validation by blocks flatters them."
            " Where descriptors of |∇Y| or of untrained networks do as well as those of u₁, the samples"
            " differ by what needs no training.",
        ),
        "order": Caption(
            "Order of the samples (Fig. 10)",
            "Each line is a sample and each column a quantity that orders the samples, the largest value"
            " above, with the value below each point. Few samples can't show that two orders agree: of n"
            " samples, one of n! random orders agrees completely with any other, which for four is 1 in 24.",
        ),
        "leakage": Caption(
            "Leakage between neighbouring slices",
            "Each point is the validation accuracy of one training, by a split at random and by one that"
            " holds out contiguous blocks or whole specimens, with thin lines between trainings of one seed"
            " and thick ones at the means. The difference, which stands above, is owed to near-copies of"
            " validation slices among the training slices, to a material that changes along its stack, and"
            " to the slices that a random split trains on and a block split leaves out as a guard.",
        ),
    }
)
"""Name of a figure of the study to its heading and text."""
