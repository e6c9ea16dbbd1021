"""The methods text of a study, generated from its settings."""

from eigenfeatures.eigen.split import TRAIN, VALIDATION
from eigenfeatures.eigen.study.chunks import SCALES
from eigenfeatures.export.study.opened import SPARSE, OpenStudy
from eigenfeatures.export.study.subjects import ACCEPTED_ACCURACY
from eigenfeatures.export.versions import versions

_SPLITS = {
    "block": "a contiguous 30 % of each stack, behind a guard on both sides that is used for nothing",
    "random": "30 % of the slices of each sample at random",
    "specimen": "30 % of the specimens of each sample",
}


def methods_text(study: OpenStudy) -> str:
    """Describe how all numbers of a study were made."""
    base, samples, view = study.base, study.samples, study.passes.view
    trained, held_out = (int((study.split == part).sum()) for part in (TRAIN, VALIDATION))
    seeds = ", ".join(
        f"{group.preset} {len(group.runs)} times ({first_of.iterations} iterations of"
        f" {first_of.plan.batch_size} slices)"
        for group in study.plan.core
        for first_of in [next(iter(group.runs.values()))]
    )
    packages = versions()
    named = ", ".join(
        f"{name} {packages[name]}" for name in ("eigenfeatures", "torch", "numpy") if name in packages
    )
    return (
        f"{len(samples)} slices of {samples.size[0]} × {samples.size[1]} pixels from {len(samples.classes)}"
        f" samples ({', '.join(samples.classes)}) were turned into the magnitude of their gradient"
        f" ({base.operator}), standardised by {base.normalise}. Validation slices were {_SPLITS[base.split]},"
        f" the same in all runs: {trained} slices to train on, {held_out} to validate. Networks were trained"
        f" by stochastic gradient descent (learning rate {base.learning_rate:g}, L2 {base.l2:g}, augmentation"
        f" '{base.augment}'): {seeds}. Runs of one network differ by their seed, which draws the initial"
        " weights, the order of slices, flips and dropout. Runs under a validation accuracy of"
        f" {ACCEPTED_ACCURACY} were left out of every figure of similarity. The eigenfeature u₁ is the first"
        f" left singular vector of the response maps at {view.layer} ({view.resolution},"
        f" {'centred' if view.center else 'not centred'}), α the channel with the largest activation. Maps on"
        " different grids were brought to the coarser one by Gaussian weights of half its stride. Similarity"
        " was measured on every slice, trained on or not, by cosine, Pearson and Spearman correlation, SSIM"
        " (σ = 1.5 pixels, maps at unit root mean square), intersection over union of the largest 10 % of"
        " pixels, and principal angles; 'away from the border' takes the pixels whose receptive field lies"
        " inside the slice, 'beyond the image' is the Pearson correlation of what least squares on |∇Y|,"
        f" blurred by Gaussians of {', '.join(map(str, SCALES))} pixels, leaves of both maps there, and"
        " 'slices of other samples' that of a run's map with another run's maps of the middle slices of the"
        " other samples. Runs of different networks or settings were compared between different seeds."
        f" Tables by layer, rank, resolution, centring, operator and iteration took every {SPARSE}th slice."
        " Intervals are 95 % bootstrap intervals, crossed over runs within a network and"
        f" {study.blocks.count} blocks of up to about {study.blocks.length} neighbouring slices within a"
        " sample, corrected for the small number of runs; since all runs share one split, they do not speak"
        " of other training slices. p values come from the same bootstrap; where several are compared,"
        f" Holm's procedure decides. Made with {named}."
    )
