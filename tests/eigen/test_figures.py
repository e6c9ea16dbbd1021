"""The figures hold the values that they were given, on the scales that they claim."""

import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import tifffile
from drawn import pictures, slices_of, values
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.figure import Figure

from eigenfeatures.eigen import figures
from eigenfeatures.eigen.figures.panels import intensity_limits

rng = np.random.default_rng(7)

HOSTILE_NAMES = ["$x^", "_hidden", "<script>", "a & b", "%d", "\\frac", "n" * 80]


@dataclass
class Rectangle:
    top: int
    left: int
    height: int
    width: int


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def training_table(iterations: int, per_epoch: int) -> dict[str, np.ndarray]:
    iteration = np.arange(1, iterations + 1)
    validated = iteration % 5 == 0
    return {
        "iteration": iteration,
        "epoch": (iteration - 1) // per_epoch + 1,
        "training_loss": rng.random(iterations),
        "training_accuracy": rng.random(iterations),
        "validation_loss": np.where(validated, rng.random(iterations), np.nan),
        "validation_accuracy": np.where(validated, rng.random(iterations), np.nan),
    }


def every_figure(images: list[np.ndarray], names: list[str]) -> dict[str, Figure]:
    """One call of every function, on the slices given."""
    samples = len(images)
    maps = np.stack([image[::2, ::2] for image in images])
    edges = np.arange(samples + 1) * 6
    along = np.repeat([image.mean() for image in images], 6)
    sigma = np.abs(rng.normal(size=(6 * samples, 8))).cumsum(axis=1)[:, ::-1]
    return {
        "typical_slices": figures.typical_slices(images, names),
        "whole_slice_and_sections": figures.whole_slice_and_sections(
            images[0],
            [Rectangle(2, 3, 10, 20)],
            figures.Sections(images[0], images[0][:5], images[0].T[:5]),
        ),
        "slice_means": figures.slice_means(along, edges, names, "mean grey value"),
        "operator_comparison": figures.operator_comparison({"forward": images[0], "sobel": images[-1]}),
        "training_progress": figures.training_progress(training_table(20, 4)),
        "confusion_matrix": figures.confusion_matrix(np.eye(samples, dtype=int), names),
        "singular_value_decay": figures.singular_value_decay(
            sigma, np.full(len(sigma), 0.5), np.repeat(np.arange(samples), 6), names
        ),
        "response_montage": figures.response_montage(maps, "relu2"),
        "gradient_and_channels": figures.gradient_and_channels(
            images[0], {"conv1": images[0], "relu2": maps[0]}
        ),
        "channel_activation": figures.channel_activation({"relu1": along, "relu2": along}, edges, names),
        "sample_grid": figures.sample_grid({"|∇Y|": images, "u": list(maps)}, names, "Eigenfeatures"),
        "overlay": figures.overlay(images, maps, names),
    }


@pytest.mark.parametrize(("samples", "constant"), [(2, True), (7, False)])
def test_every_figure_draws_without_a_warning(samples: int, constant: bool) -> None:
    images = [np.full((20, 36), 3.0)] * samples if constant else slices_of(samples)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = every_figure(images, HOSTILE_NAMES[:samples])
        for name, figure in drawn.items():
            png = figures.figure_png(figure)
            assert png.startswith(b"\x89PNG\r\n\x1a\n"), name
            assert figure.get_suptitle(), name
            assert int.from_bytes(png[16:20], "big") <= 1100, name


def test_every_plot_names_its_axes() -> None:
    for name, figure in every_figure(slices_of(3), ["a", "b", "c"]).items():
        for axes in figure.axes:
            if axes.axison and not axes.images:
                assert axes.get_ylabel() or axes.get_xlabel(), name


def test_hostile_names_appear_as_they_are() -> None:
    drawn = every_figure(slices_of(7), HOSTILE_NAMES)
    for name in ("typical_slices", "slice_means", "confusion_matrix", "singular_value_decay", "sample_grid"):
        shown = texts(drawn[name])
        for hostile in ("_hidden", "<script>", "a & b", r"\$x^"):
            assert hostile in shown, (name, hostile)


def test_png_of_equal_figures_is_equal_and_carries_no_metadata() -> None:
    images = slices_of(2)
    first, second = (figures.figure_png(figures.typical_slices(images, ["a", "b"])) for _ in range(2))
    assert first == second
    assert b"tEXt" not in first
    other = figures.figure_png(figures.typical_slices(images[::-1], ["a", "b"]))
    assert other != first


def test_no_global_state() -> None:
    code = (
        "import sys, matplotlib; before = matplotlib.rcParams.copy()\n"
        "import numpy as np\n"
        "from eigenfeatures.eigen import figures\n"
        "figures.figure_png(figures.typical_slices([np.eye(9), np.eye(9)], ['a', 'b']))\n"
        "assert matplotlib.rcParams.copy() == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


# --- intensity scales -------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        hnp.arrays(np.float32, (8, 8), elements=st.floats(-1e6, 1e6, width=32)),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
)
def test_limits_clip_at_most_half_a_percent_of_any_image(
    images: list[np.ndarray], include_zero: bool
) -> None:
    low, high = intensity_limits(images, include_zero)
    assert high > low
    if include_zero:
        assert low <= 0 <= high
    for image in images:
        allowed = np.ceil(0.005 * image.size)
        assert (image < low).sum() <= allowed
        assert (image > high).sum() <= allowed


def test_limits_of_an_almost_constant_image_show_the_rest() -> None:
    image = np.zeros((64, 64))
    image[3, 3] = 0.02
    assert intensity_limits([image]) == (0.0, 0.02)


@pytest.mark.parametrize("samples", [2, 7, 12])
def test_typical_slices_share_one_grey_scale(samples: int) -> None:
    images = slices_of(samples)
    figure = figures.typical_slices(images, [f"S{k}" for k in range(samples)], (2.0, 3.0))
    shown = pictures(figure)
    assert [axes.get_title() for axes in shown] == [f"S{k}" for k in range(samples)]
    low = min(np.percentile(image, 0.5) for image in images)
    high = max(np.percentile(image, 99.5) for image in images)
    for axes, image in zip(shown, images, strict=True):
        np.testing.assert_array_equal(values(axes), image)
        np.testing.assert_allclose(axes.images[0].get_clim(), (low, high))
        assert axes.images[0].get_extent() == [0, 180, 80, 0]
    # The scale is common and not each image's own.
    assert np.percentile(images[0], 99.5) < high / 2
    assert "µm" in texts(figure)
    assert "grey value" in texts(figure)


def test_without_a_pixel_size_lengths_are_in_pixels() -> None:
    shown = texts(figures.typical_slices(slices_of(2), ["a", "b"]))
    assert "10 pixels" in shown
    assert "µm" not in shown


def test_typical_slices_of_real_stacks(ct_data: Path) -> None:
    images = [tifffile.imread(ct_data / f"{name}.tif", key=64)[:128, :128] for name in ("cement", "nerve")]
    shown = pictures(figures.typical_slices(images, ["cement", "nerve"]))
    for axes, image in zip(shown, images, strict=True):
        np.testing.assert_array_equal(values(axes), image)
    assert shown[0].images[0].get_clim() == shown[1].images[0].get_clim() == intensity_limits(images)


# --- Fig. 2 -----------------------------------------------------------------------------------


def test_sections_lie_as_they_should_and_cut_outs_where_they_were_cut() -> None:
    stack = rng.normal(size=(10, 30, 50))
    sections = figures.Sections(stack[5], stack[:, 15], stack[:, :, 25])
    whole = rng.normal(size=(80, 200))
    regions = [Rectangle(5, 7, 30, 50), Rectangle(40, 140, 30, 50)]
    figure = figures.whole_slice_and_sections(whole, regions, sections, (4.0, 2.0, 1.0))
    shown = {axes.get_title(): axes for axes in pictures(figure)}
    np.testing.assert_array_equal(values(shown["whole slice"]), whole)
    np.testing.assert_array_equal(values(shown["xy section"]), stack[5])
    np.testing.assert_array_equal(values(shown["xz section"]), stack[:, 15])
    np.testing.assert_array_equal(values(shown["yz section"]), stack[:, :, 25].T)
    assert shown["xy section"].images[0].get_extent() == [0, 50, 60, 0]
    assert shown["xz section"].images[0].get_extent() == [0, 50, 40, 0]
    assert shown["yz section"].images[0].get_extent() == [0, 40, 60, 0]
    assert shown["yz section"].get_xlabel() == "z (µm)"
    assert shown["yz section"].get_ylabel() == "y (µm)"
    assert len({axes.images[0].get_clim() for axes in shown.values()}) == 1
    boxes = [patch.get_bbox().bounds for patch in shown["whole slice"].patches]
    assert boxes == [(7, 10, 50, 60), (140, 80, 50, 60)]
    figure = figures.whole_slice_and_sections(whole, [Rectangle(0, 0, 80, 200)], sections)
    assert not any(axes.patches or axes.texts for axes in pictures(figure))
    assert "cut-outs" not in figure.get_suptitle()


# --- curves -----------------------------------------------------------------------------------


def test_slice_means_are_separated_at_the_boundaries() -> None:
    along = rng.random(30)
    along[3] = np.nan
    axes, *_ = figures.slice_means(along, [0, 10, 24, 30], ["a", "b", "c"], "mean grey value").axes
    own = [line for line in axes.lines if line.get_linestyle() == "-" and len(line.get_xdata()) > 2]
    np.testing.assert_array_equal(np.concatenate([line.get_xdata() for line in own]), np.arange(1, 31))
    np.testing.assert_array_equal(np.concatenate([line.get_ydata() for line in own]), along)
    assert len({line.get_color() for line in own}) == 3
    separators = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2]
    assert separators == [10.5, 24.5]
    means = [segment for lines in axes.collections for segment in lines.get_segments()]
    expected = [np.nanmean(along[:10]), along[10:24].mean(), along[24:].mean()]
    np.testing.assert_allclose([segment[0, 1] for segment in means], expected)
    np.testing.assert_allclose(
        [segment[:, 0] for segment in means], [(0.5, 10.5), (10.5, 24.5), (24.5, 30.5)]
    )
    assert axes.get_ylabel() == "mean grey value"


def test_boundaries_without_their_names_are_refused() -> None:
    with pytest.raises(ValueError, match="labels"):
        figures.slice_means(np.arange(4.0), [0, 2, 4], ["only one"], "mean")


def test_channel_activation_has_a_panel_a_layer() -> None:
    means = {"relu1": rng.random(12), "relu2": rng.random(12)}
    figure = figures.channel_activation(means, [0, 5, 12], ["a", "b"])
    panels = [axes for axes in figure.axes if axes.get_ylabel()]
    assert [axes.get_ylabel() for axes in panels] == ["mean activation at relu1", "mean activation at relu2"]
    for axes, expected in zip(panels, means.values(), strict=True):
        np.testing.assert_array_equal(np.concatenate([line.get_ydata() for line in axes.lines[:2]]), expected)


def test_training_progress_holds_both_curves_and_the_epochs() -> None:
    table = training_table(70, 11)
    above, below = figures.training_progress(table, "Training").axes
    for axes, quantity in ((above, "accuracy"), (below, "loss")):
        lines = {line.get_label(): line for line in axes.lines}
        training = table[f"training_{quantity}"]
        np.testing.assert_array_equal(lines["training, one batch"].get_ydata(), training)
        smoothed = lines["training, mean of 5 batches"].get_ydata()
        np.testing.assert_allclose(smoothed[2:-2], np.convolve(training, np.full(5, 0.2), "valid"))
        np.testing.assert_allclose(smoothed[0], training[:3].mean())
        validation = lines["validation"]
        np.testing.assert_array_equal(validation.get_xdata(), np.arange(5, 71, 5))
        np.testing.assert_array_equal(validation.get_ydata(), table[f"validation_{quantity}"][4::5])
        epochs = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2]
        assert epochs == [11.5, 22.5, 33.5, 44.5, 55.5, 66.5]
    assert "iteration" in below.get_xlabel()


def test_many_epochs_do_not_cover_the_curves() -> None:
    above, _ = figures.training_progress(training_table(600, 2)).axes
    epochs = [line for line in above.lines if len(line.get_xdata()) == 2]
    assert 20 <= len(epochs) <= 40


def test_singular_values_are_medians_and_their_energy_adds_up_to_one() -> None:
    matrices = rng.random((9, 50, 8))
    sigma = np.linalg.svd(matrices, compute_uv=False)
    energy = sigma[:, 0] ** 2 / (matrices**2).sum(axis=(1, 2))
    sigma[4], energy[4] = 0.0, 0.0
    labels = np.repeat([0, 1, 2], 3)
    figure = figures.singular_value_decay(sigma, energy, labels, ["a", "b", "c"])
    left, right = figure.axes
    kept = [[0, 1, 2], [3, 5], [6, 7, 8]]
    for line, rows in zip(left.lines, kept, strict=True):
        np.testing.assert_allclose(line.get_ydata(), np.median(sigma[rows] / sigma[rows, :1], axis=0))
    for line, band, rows in zip(right.lines, right.collections, kept, strict=True):
        power = (np.linalg.svd(matrices[rows], compute_uv=False) ** 2).cumsum(axis=1)
        power /= (matrices[rows] ** 2).sum(axis=(1, 2))[:, np.newaxis]
        np.testing.assert_allclose(line.get_ydata(), np.median(power, axis=0))
        np.testing.assert_allclose(line.get_ydata()[-1], 1.0)
        corners = band.get_paths()[0].vertices
        np.testing.assert_allclose(corners[:, 1].min(), np.percentile(power, 25, axis=0).min())
    assert left.get_yscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]


def test_singular_values_that_are_all_zero_draw_empty_axes() -> None:
    nothing = np.zeros((4, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = figures.singular_value_decay(nothing, nothing[:, 0], np.zeros(4, int), ["a"])
        figures.figure_png(figure)
    assert not figure.axes[0].lines


# --- captions ---------------------------------------------------------------------------------


def test_every_caption_has_two_sentences() -> None:
    for name, caption in figures.CAPTIONS.items():
        sentences = caption.text.rstrip(".").split(". ")
        assert len(sentences) == 2, (name, sentences)
        assert caption.text.endswith(".")
        assert caption.title


def test_the_caption_of_singular_values_says_what_noise_has() -> None:
    maps = np.maximum(np.random.default_rng(0).normal(size=(128, 133 * 133)), 0)
    strengths = np.linalg.eigvalsh(maps @ maps.T)[::-1]
    share, ratio = strengths[0] / strengths.sum(), np.sqrt(strengths[1] / strengths[0])
    text = figures.CAPTIONS["singular_value_decay"].text
    assert f"noise in 128 maps of 133×133 has σ₁²/‖X‖² of {share:.2f} and σ₂/σ₁ of {ratio:.2f}" in text


def test_captions_say_what_pictures_do_not_tell() -> None:
    for name in ("channel_activation", "strongest_channels", "eigenfeatures"):
        assert "contrast as such is not in" in figures.CAPTIONS[name].text
    assert "another seed may give another u₁" in figures.CAPTIONS["eigenfeatures"].text
    assert "Where grey values stand for electron density" in figures.CAPTIONS["typical_slices"].text


def test_every_split_has_its_note() -> None:
    assert {"random", "block", "specimen", "alexnet", "phantom"} <= set(figures.NOTES)


def test_iterations_are_whole_numbers_on_the_axis():
    table = {name: np.linspace(1, 9, 9) for name in ("iteration", "epoch")}
    kinds = [f"{part}_{what}" for part in ("training", "validation") for what in ("loss", "accuracy")]
    figure = figures.training_progress(table | {kind: np.linspace(0.2, 0.9, 9) for kind in kinds})
    ticks = figure.axes[1].get_xticks()
    np.testing.assert_array_equal(ticks, np.round(ticks))
