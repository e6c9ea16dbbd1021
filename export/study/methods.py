"""The methods text of a study, generated from its settings."""

from eigenfeatures.eigen.split import TRAIN, VALIDATION
from eigenfeatures.eigen.study.chunks import SCALES
from eigenfeatures.export.study.opened import SPARSE, OpenStudy
from eigenfeatures.export.study.subjects import ACCEPTED_ACCURACY
from eigenfeatures.export.tables import read_table
from eigenfeatures.export.versions import versions

_SPLITS = {
    "block": "a contiguous 30 % of each stack, behind a guard on both sides that is used for nothing",
    "random": "30 % of the slices of each sample at random",
    "specimen": "30 % of the specimens of each sample",
}


def methods_text(study: OpenStudy) -> str:
    """Describe how all numbers of a study were made."""
    base, samples, view = study.base, study.samples, study.passes.view
    first = next(iter(study.runs.values()))
    split = read_table(first.path / "slices.csv")["split"]
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
        f" the same in all runs: {split.count(TRAIN)} slices to train on, {split.count(VALIDATION)} to"
        " validate. Networks were trained by stochastic gradient descent (learning rate"
        f" {base.learning_rate:g}, L2 {base.l2:g}, augmentation '{base.augment}'): {seeds}. Runs of one"
        " network differ by their seed, which draws the initial weights, the order of slices, flips and"
        f" dropout. Runs under a validation accuracy of {ACCEPTED_ACCURACY} were left out of every figure of"
        " similarity. The eigenfeature u₁ is the first left singular vector of the response maps at"
        f" {view.layer} ({view.resolution}, {'centred' if view.center else 'not centred'}), α the channel"
        " with the largest activation. Maps on different grids were brought to the coarser one by Gaussian"
        " weights of half its stride. Similarity was measured on every slice by cosine, Pearson and Spearman"
        " correlation, SSIM (σ = 1.5 pixels, maps at unit root mean square), intersection over union of the"
        " largest 10 % of pixels, and principal angles; 'beyond the image' is the Pearson correlation of"
        f" what least squares on |∇Y|, smoothed by Gaussians of {', '.join(map(str, SCALES))} pixels, leaves"
        " of both maps. Tables by layer, rank, resolution, centring, operator and iteration took every"
        f" {SPARSE}th slice. Intervals are 95 % bootstrap intervals, crossed over runs within a network and"
        f" blocks of {study.blocks.length} neighbouring slices within a sample"
        f" ({len(set(study.blocks.block_of.tolist()))} blocks), corrected for the small number of runs; p"
        " values come from the same bootstrap and are not corrected for the number of comparisons. Made with"
        f" {named}."
    )
