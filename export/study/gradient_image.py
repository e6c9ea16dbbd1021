"""How close the maps of trained networks are to the gradient image itself; needs no null model."""

from collections.abc import Sequence

import numpy as np

from eigenfeatures.eigen.figures import interval_plot
from eigenfeatures.eigen.study.analysis import Analysis
from eigenfeatures.eigen.study.chunks import KINDS, SCALES
from eigenfeatures.export.study.opened import OpenStudy
from eigenfeatures.export.study.parts import (
    Estimate,
    Exhibit,
    Part,
    estimate_columns,
    exhibit,
    in_words,
    interval_rows,
    run_estimates,
)
from eigenfeatures.export.study.stability import SYMBOLS

_IMAGES = {
    "image": "all blurs together",
    **{
        f"image{scale}": f"blurred by {scale} pixel{'s' * (scale > 1)}" if scale else "as it is"
        for scale in SCALES
    },
}


def image_part(study: OpenStudy) -> Part:
    """Correlate u₁ and α of every core run with |∇Y|, blurred and not."""
    if not study.core:
        return Part()
    analysis = study.core_analysis
    estimates = run_estimates(analysis, [f"{kind}/{image}" for kind in KINDS for image in _IMAGES])
    findings = [_sentence(analysis, group) for group in analysis.groups]
    return Part(findings, [_exhibit(estimates)], {"gradient_image": estimate_columns(estimates)})


def _sentence(analysis: Analysis, group: str) -> str:
    best = analysis.of_runs(f"u1/{best_image(analysis, group)}", group)
    together = analysis.of_runs("u1/image", group)
    words = (
        f"{group}: the |∇Y| that is nearest to u₁ ({_IMAGES[best_image(analysis, group)]}) correlates"
        f" with it by {in_words(best)}, the best sum of all blurs by {in_words(together)}"
    )
    rows = analysis.within(group)
    if len(rows):
        between, beyond = (analysis.of_pairs(f"u1/{name}", rows) for name in ("pearson", "beyond_image"))
        words += (
            f". Another seed's u₁ correlates with it by {in_words(between)}, and by {in_words(beyond)} after"
            " subtracting what blurred |∇Y| explains"
        )
    return f"{words}.{_inverted(analysis, group)}"


def _inverted(analysis: Analysis, group: str) -> str:
    """Tell of runs whose u₁ is bright where the gradient is low, which a mean would hide."""
    means = np.nanmean(analysis.measured.of_runs["u1/image4"][list(analysis.groups[group])], axis=1)
    count = int(np.sum(means < 0))
    return f" In {count} of {len(means)} runs u₁ is bright where the gradient is low." if count else ""


def best_image(analysis: Analysis, group: str) -> str:
    """Return the blur whose gradient image u₁ of a group correlates with most, whatever the sign."""
    rows = list(analysis.groups[group])
    means = {
        f"image{scale}": abs(float(np.nanmean(analysis.measured.of_runs[f"u1/image{scale}"][rows])))
        for scale in SCALES
    }
    return max(means, key=means.__getitem__)


def _exhibit(estimates: Sequence[Estimate]) -> Exhibit:
    labels = {
        f"{kind}/{image}": f"{SYMBOLS[kind]}, |∇Y| {name}"
        for kind in KINDS
        for image, name in _IMAGES.items()
    }
    figure = interval_plot(
        interval_rows(estimates, labels), "Correlation of the maps with the gradient image", "correlation"
    )
    return exhibit("gradient_image", figure)
