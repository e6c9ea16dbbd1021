"""The paper's figures for one finished run, or for two side by side."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from eigenfeatures.eigen.figures import (
    Sections,
    channel_activation,
    confusion_matrix,
    gradient_and_channels,
    operator_comparison,
    overlay,
    response_montage,
    sample_grid,
    singular_value_decay,
    slice_means,
    training_progress,
    typical_slices,
    whole_slice_and_sections,
)
from eigenfeatures.eigen.figures.style import TITLE_SIZE
from eigenfeatures.eigen.split import VALIDATION
from eigenfeatures.export.finished import Answer, Finished
from eigenfeatures.export.settings import FEATURE_SETTINGS
from eigenfeatures.export.tables import numbers
from eigenfeatures.kernels import Operator, gradient_magnitude, strongest_channel

COMPARED_TRAINING = "fig12_training_compared"

_FIG9_LAYERS = ("conv1", "conv2", "relu2")


def run_figures(run: Finished, other: Finished | None) -> Mapping[str, tuple[str, Callable[[], Figure]]]:
    """Return what to draw: name of a caption to the file's name and the drawing, as the report has them."""
    names, pixel = run.typical_names, run.pixel
    answers = run.answers(run.typical)
    compared = None if other is None else other.answers(run.typical)
    features = [answer.eigenfeature for answer in answers]
    figures: dict[str, tuple[str, Callable[[], Figure]]] = {
        "eigenfeatures": (
            "fig13_eigenfeatures",
            partial(_grid, run, other, answers, compared, "eigenfeature", "Eigenfeatures", "σ₁u₁/√C"),
        ),
        "overlay": ("overlay", partial(overlay, run.slices, features, names, pixel, run.placement)),
        "strongest_channels": (
            "fig11_strongest_channels",
            partial(_grid, run, other, answers, compared, "alpha", "Strongest channel", "channel α"),
        ),
        "channel_activation": ("fig10_channel_activation", partial(_activation, run)),
        "typical_slices": ("fig01_typical_slices", partial(typical_slices, run.slices, names, pixel)),
        "whole_slice_and_sections": ("fig02_whole_slice_and_sections", partial(_whole_slice, run)),
        "slice_mean": ("fig03a_mean", partial(_along, run, "mean", "mean grey value")),
        "slice_gradient": ("fig03b_mean_gradient", partial(_along, run, "mean_gradient", "mean |∇Y|")),
        "operator_comparison": ("fig05_gradient_operators", partial(_operators, run)),
        "training_progress": ("fig06_training", partial(_training, run)),
        "confusion_matrix": ("confusion_matrix", partial(_confusion, run)),
        "singular_value_decay": ("fig07d_singular_values", partial(_decay, run)),
        "response_montage": ("fig08_response_maps", partial(_montage, run)),
        "gradient_and_channels": ("fig09_strongest_channel_by_layer", partial(_by_layer, run)),
    }
    if other is not None:
        figures["training_progress_compared"] = (COMPARED_TRAINING, partial(_training, other))
    return figures


def _grid(
    run: Finished,
    other: Finished | None,
    answers: list[Answer],
    compared: list[Answer] | None,
    attribute: str,
    title: str,
    quantity: str,
) -> Figure:
    images = [getattr(answer, attribute) for answer in answers]
    own = _column(quantity, run, other)
    columns, placements = {"|∇Y|": list(run.gradients), own: images}, {own: run.placement}
    if other is not None and compared is not None:
        theirs = _column(quantity, other, run)
        columns[theirs] = [getattr(answer, attribute) for answer in compared]
        placements[theirs] = other.placement
    layers = {each.folder.settings.layer for each in (run, other) if each is not None}
    if len(layers) == 1:
        title = f"{title} at {layers.pop()}"
    return sample_grid(columns, run.typical_names, title, run.pixel, placements)


def _of_slice(figure: Figure, name: str) -> Figure:
    """Name the slice below the title of a figure that shows one."""
    name = name.replace("$", r"\$")
    figure.suptitle(f"{figure.get_suptitle()}\n{name}", fontsize=TITLE_SIZE)
    return figure


def _column(quantity: str, run: Finished, other: Finished | None) -> str:
    """Title a column by what tells its run from the other, before all what it is a picture of."""
    if other is None:
        return quantity
    ours, theirs = run.folder.settings.to_toml(), other.folder.settings.to_toml()
    names = sorted({**ours, **theirs}, key=lambda name: name not in FEATURE_SETTINGS)
    differing = [f"{name} {ours.get(name, '–')}" for name in names if ours.get(name) != theirs.get(name)]
    shown = [*differing[:2], f"{len(differing) - 2} more"] if len(differing) > 2 else differing
    told_apart = ", ".join(shown) or run.folder.path.name
    return f"{quantity} ({told_apart})".replace("$", r"\$")


def _activation(run: Finished) -> Figure:
    means = {layer: numbers(run.table[f"alpha_{layer}_positive_mean"]) for layer in ("relu1", "relu2")}
    return channel_activation(means, run.boundaries, run.samples.classes)


def _along(run: Finished, column: str, ylabel: str) -> Figure:
    return slice_means(numbers(run.table[column]), run.boundaries, run.samples.classes, ylabel)


def _whole_slice(run: Finished) -> Figure:
    specimen = run.samples.specimens[0]
    stack, region = specimen.stack, specimen.region
    regions = [part.region for part in run.samples.specimens if part.stack is stack]
    middle_row, middle_column = region.height // 2, region.width // 2
    rows, columns = [], []
    # One slice at a time, since a stack may be larger than the memory.
    for number in range(stack.shape[0]):
        image = stack.read([number], region)[0]
        rows.append(image[middle_row].copy())
        columns.append(image[:, middle_column].copy())
    middle = stack.shape[0] // 2
    sections = Sections(xy=stack.read([middle], region)[0], xz=np.stack(rows), yz=np.stack(columns))
    figure = whole_slice_and_sections(stack.read([middle])[0], regions, sections, run.voxel)
    return _of_slice(figure, f"{stack.path.name}, slice {middle}")


def _operators(run: Finished) -> Figure:
    image = run.slices[run.strongest_sample]
    names: dict[Operator, None] = dict.fromkeys(("forward", "sobel", run.model.preprocessing.operator))
    figure = operator_comparison({name: gradient_magnitude(image, name) for name in names}, run.pixel)
    return _of_slice(figure, run.strongest_name)


def _training(run: Finished) -> Figure:
    return training_progress(run.training, f"Training of the network '{run.folder.settings.preset}'")


def _confusion(run: Finished) -> Figure:
    return confusion_matrix(np.array(run.metrics[VALIDATION]["confusion"]), run.samples.classes)


def _decay(run: Finished) -> Figure:
    names = [name for name in (f"sigma{k}" for k in range(1, 9)) if any(run.table[name])]
    values = np.stack([numbers(run.table[name]) for name in names], axis=1)
    return singular_value_decay(values, numbers(run.table["energy1"]), run.samples.label, run.samples.classes)


def _montage(run: Finished) -> Figure:
    maps = run.layer_maps(int(run.typical[run.strongest_sample]))
    return _of_slice(response_montage(maps, run.folder.settings.layer), run.strongest_name)


def _by_layer(run: Finished) -> Figure:
    maps = run.maps(int(run.typical[run.strongest_sample]), _FIG9_LAYERS, "pooled")
    strongest = {layer: channels[strongest_channel(channels).index] for layer, channels in maps.items()}
    placements = {layer: run.placement_at(layer, "pooled") for layer in strongest}
    gradient = run.gradients[run.strongest_sample]
    figure = gradient_and_channels(gradient, strongest, run.pixel, placements)
    return _of_slice(figure, run.strongest_name)
