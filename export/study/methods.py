"""The methods text of a study, generated from its settings."""

from collections.abc import Iterator

from torch import nn

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.split import LARGEST_GUARD_SHARE, TRAIN, VALIDATION
from eigenfeatures.eigen.study.chunks import SCALES
from eigenfeatures.eigen.study.discrimination import REGULARISATION, block_folds
from eigenfeatures.eigen.study.ordering import MOST_PERMUTED
from eigenfeatures.eigen.study.significance import LEVEL
from eigenfeatures.eigen.training import VALIDATION_INTERVAL
from eigenfeatures.export.settings import read_config
from eigenfeatures.export.study.changes import EQUAL_WITHIN
from eigenfeatures.export.study.opened import SPARSE, OpenStudy
from eigenfeatures.export.study.parts import ALIKE, NEARLY_THE_SAME
from eigenfeatures.export.study.plan import CLAIMS, NULLS, OPERATOR_PLAN, SPLITS
from eigenfeatures.export.study.subjects import ACCEPTED_ACCURACY
from eigenfeatures.export.versions import versions

_SPLITS = {
    "block": "a contiguous 30 % of each stack, behind a guard on both sides that is used for nothing",
    "random": "30 % of the slices of each sample at random",
    "specimen": "30 % of the specimens of each sample",
}


def methods_text(study: OpenStudy) -> str:
    """Describe how all numbers of a study were made."""
    packages = versions()
    named = ", ".join(
        f"{name} {packages[name]}" for name in ("eigenfeatures", "torch", "numpy") if name in packages
    )
    return " ".join(
        [
            _data(study),
            _training(study),
            *_further_plans(study),
            _maps(study),
            _similarity(),
            _uncertainty(study),
            _words(),
            *_discrimination(study),
            _ordering(),
            f"Made with {named}.",
        ]
    )


def _data(study: OpenStudy) -> str:
    base, samples = study.base, study.samples
    trained, held_out = (int((study.split == part).sum()) for part in (TRAIN, VALIDATION))
    return (
        f"{len(samples)} slices of {samples.size[0]} × {samples.size[1]} pixels from {len(samples.classes)}"
        f" samples ({', '.join(samples.classes)}) were turned into the magnitude of their gradient"
        f" ({base.operator}), standardised by {base.normalise}. Validation slices were {_SPLITS[base.split]},"
        f" the same in all runs: {trained} slices to train on, {held_out} to validate."
    )


def _training(study: OpenStudy) -> str:
    base = study.base
    seeds = ", ".join(
        f"{group.preset} {len(group.runs)} times ({first_of.iterations} iterations of"
        f" {first_of.plan.batch_size} slices)"
        for group in study.plan.core
        for first_of in [next(iter(group.runs.values()))]
    )
    stopped = (
        "none was stopped early"
        if base.early_stop is None
        else f"a training was stopped after {base.early_stop} validations without a lower loss"
    )
    return (
        "Networks were trained"
        f" by stochastic gradient descent (learning rate {base.learning_rate:g}, L2 {base.l2:g}, augmentation"
        f" '{base.augment}', dropout {_dropout(study):g} before fully connected layers, computed in"
        f" {_precision(study)}): {seeds}. They were validated every {VALIDATION_INTERVAL} iterations;"
        f" {stopped}. Runs of one network differ by their seed, which draws the initial"
        " weights, the order of slices, flips and dropout. Runs under a validation accuracy of"
        f" {ACCEPTED_ACCURACY} were left out of every figure of similarity."
    )


def _dropout(study: OpenStudy) -> float:
    """Return the rate, which is the same in all networks."""
    samples = study.samples
    network = build_network(study.plan.core[0].preset, len(samples.classes), samples.size)
    return next(module.p for module in network.modules() if isinstance(module, nn.Dropout))


def _precision(study: OpenStudy) -> str:
    """Name the precision and the device of the trainings as their records have them."""
    records = [study.runs[name].path / "run.toml" for name in study.plan.runs()]
    devices = [read_config(record)["device"] for record in records]
    return " or ".join(sorted({f"{found['training_precision']} on {found['name']}" for found in devices}))


def _further_plans(study: OpenStudy) -> Iterator[str]:
    """Say what else was trained, a sentence a plan."""
    trained = f"{study.plan.reference.preset} was trained {len(study.plan.reference.runs)} times"
    if study.plan.groups_of(NULLS):
        untrained = (
            "Null models are the networks of the runs that count before their first iteration, with the same"
            " initial weights and the statistics of batch normalisation estimated on training slices;"
            " besides,"
        )
        shuffled = f"{trained} with the labels of the training slices permuted among them."
        yield f"{untrained if study.core else 'As null models,'} {shuffled}"
    for group in study.plan.groups_of(SPLITS):
        (split,) = {settings.split for settings in group.runs.values()}
        yield f"To measure leakage, {trained} with validation slices that were {_SPLITS[split]}."
    for what, plan in (("choose the operator", OPERATOR_PLAN), ("test side claims", CLAIMS)):
        groups = study.plan.groups_of(plan)
        if groups:
            yield f"To {what}, {trained} with each of: {', '.join(group.label for group in groups)}."


def _maps(study: OpenStudy) -> str:
    view = study.passes.view
    return (
        "The eigenfeature u₁ is the first"
        f" left singular vector of the response maps at {view.layer} ({view.resolution},"
        f" {'centred' if view.center else 'not centred'}), α the channel with the largest activation. Maps on"
        " different grids were brought to the coarser one by Gaussian weights of half its stride."
    )


def _similarity() -> str:
    return (
        "Similarity"
        " was measured on every slice, trained on or not, by cosine, Pearson and Spearman correlation, SSIM"
        " (σ = 1.5 pixels, maps at unit root mean square), intersection over union of the largest 10 % of"
        " pixels, and principal angles; 'away from the border' takes the pixels whose receptive field lies"
        " inside the slice, 'beyond the image' is the Pearson correlation of what least squares on |∇Y|,"
        f" blurred by Gaussians of {', '.join(map(str, SCALES))} pixels, leaves of both maps there, and"
        " 'slices of other samples' that of a run's map with another run's maps of the middle slices of the"
        " other samples. Runs of different networks or settings were compared between different seeds."
        f" Tables by layer, rank, resolution, centring, operator and iteration took every {SPARSE}th slice."
    )


def _uncertainty(study: OpenStudy) -> str:
    too_short = [study.samples.classes[label] for label in study.blocks.too_short]
    correlated = f" Slices of {', '.join(too_short)} correlate over more than that." if too_short else ""
    return (
        "Intervals are 95 % bootstrap intervals, crossed over seeds (runs of one seed are drawn together) and"
        f" {study.blocks.count} blocks of up to about {study.blocks.length} neighbouring slices within a"
        f" sample, at most {LARGEST_GUARD_SHARE:.0%} of a stack, corrected for the small number of"
        f" seeds.{correlated}"
        " Since all runs share one split, intervals do not speak of other training slices. p values of"
        " differences come from the same bootstrap; where several are compared, Holm's procedure decides"
        f" at {LEVEL:.0%}."
    )


def _words() -> str:
    return (
        f"In words, a mean Pearson correlation of {NEARLY_THE_SAME} or more is 'nearly the same', of {ALIKE}"
        f" or more 'alike', and less 'different'; changes of up to {EQUAL_WITHIN} are taken for none."
    )


def _discrimination(study: OpenStudy) -> Iterator[str]:
    """Describe the classifier, unless the stacks are too short for it."""
    try:
        folds = len(list(block_folds(study.samples.label, study.blocks.block_of)))
    except InputError:
        return
    yield (
        "Samples were told apart by logistic regression (L2 penalty |w|²/2C with"
        f" C = {REGULARISATION:g}) on standardised descriptors of each map: mean, quantiles, granulometry,"
        " radial power spectrum and autocorrelation length. It was fitted to the training slices and judged"
        f" on the validation slices, and cross-validated in {folds} folds of contiguous blocks, of whose"
        " neighbours the nearer half is used for nothing."
    )


def _ordering() -> str:
    return (
        "Orders of samples were compared by Kendall's τ with a two-sided p over all permutations of the"
        f" samples (SciPy's p beyond {MOST_PERMUTED} samples)."
    )
