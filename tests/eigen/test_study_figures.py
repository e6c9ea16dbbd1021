"""The figures of a study hold the values that they were given, and say what was left out."""

import warnings
from collections.abc import Iterable

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import rankdata

from eigenfeatures.eigen import figures
from eigenfeatures.eigen.figures import IntervalRow
from eigenfeatures.eigen.figures.twins import KIND_COLOURS

rng = np.random.default_rng(11)

HOSTILE = ["$x^", "_hidden", "<script>", "a & b", "%d", "\\frac", "n" * 80]


def words(texts: Iterable[Text]) -> list[str]:
    return [text.get_text() for text in texts]


def notes(figure: Figure) -> list[str]:
    """What is written at things, in the order of writing."""
    return words(text for text in figure.axes[0].texts if isinstance(text, Annotation))


def symmetric(runs: int, left_out: tuple[int, ...] = ()) -> np.ndarray:
    values = rng.random((runs, runs))
    values = (values + values.T) / 2
    for run in left_out:
        values[run], values[:, run] = np.nan, np.nan
    np.fill_diagonal(values, np.nan)
    return values


def row(label: str, group: str, estimate: float = 0.5) -> IntervalRow:
    return IntervalRow(label, group, estimate, estimate - 0.1, estimate + 0.2)


def every_figure(names: list[str]) -> dict[str, Figure]:
    """One call of every function, with the names given to whatever can be named."""
    count = len(names)
    slices = list(rng.random((count, 24, 36)))
    maps = [image[::2, ::2] for image in slices]
    pair = {"u₁": rng.normal(size=(3, 40)), "α": rng.normal(size=5)}
    course = np.linspace(0, 1, 6)
    accuracy = {name: rng.random(3) for name in names}
    return {
        "similarity_matrix": figures.similarity_matrix(symmetric(count, (1,)), names, names, "T", "Pearson"),
        "similarity_violins": figures.similarity_violins(dict.fromkeys(names, pair), "T", "Pearson"),
        "interval_plot": figures.interval_plot([row(name, name) for name in names], "T", "Pearson"),
        "training_curve": figures.training_curve(
            np.arange(6),
            dict.fromkeys(names[:6], (course, course - 0.1, course + 0.1)),
            dict.fromkeys(names, course),
            "T",
            threshold=0.95,
        ),
        "seed_panel": figures.seed_panel(dict.fromkeys(names[:6], maps), slices, names, "T", (2.0, 2.0)),
        "order_plot": figures.order_plot({name: rng.random(count) for name in names}, names),
        "leakage_bars": figures.leakage_bars(accuracy, accuracy, 0.25),
    }


@pytest.mark.parametrize("names", [["a", "b"], HOSTILE])
def test_every_figure_draws_without_a_warning_and_with_names_as_they_are(names: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, figure in every_figure(names).items():
            png = figures.figure_png(figure)
            assert int.from_bytes(png[16:20], "big") <= 1100, name
            shown = "".join(words(figure.findobj(Text))).replace("\n", "")
            for own in names[:4]:
                assert own.replace("$", r"\$") in shown or own.replace(" ", "") in shown, (name, own)


def test_matrix_groups_runs_by_preset_and_hatches_those_left_out() -> None:
    values = symmetric(5, left_out=(3,))
    values[0, 1] = values[1, 0] = -0.25
    names = ["paper 0", "alexnet 0", "paper 1", "alexnet 1", "paper 2"]
    groups = [name.split()[0] for name in names]
    figure = figures.similarity_matrix(values, names, groups, "Similarity", "Pearson correlation")
    axes, bar = figure.axes
    order = [0, 2, 4, 1, 3]
    shown = np.ma.filled(axes.images[0].get_array().astype(float), np.nan)
    assert_array_equal(shown, values[np.ix_(order, order)])
    assert axes.images[0].get_clim() == (-0.25, 1.0)
    assert words(axes.get_yticklabels()) == [names[run] for run in order]
    assert words(axes.child_axes[0].get_xticklabels()) == ["paper", "alexnet"]
    assert {line.get_xdata()[0] for line in axes.lines} >= {2.5}
    assert [patch.get_bbox().bounds for patch in axes.patches] == [(-0.5, 3.5, 5, 1), (3.5, -0.5, 1, 5)]
    assert "left out" in figure.legends[0].get_texts()[0].get_text()
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert len(cells) == 12
    assert cells[(3, 0)] == cells[(0, 3)] == "−0.25"
    assert cells[(1, 0)] == f"{values[0, 2]:.2f}"
    assert bar.get_ylabel() == "Pearson correlation"


def test_matrix_of_complete_runs_has_no_note_and_one_scale_whatever_the_values() -> None:
    for scale in (0.1, 1.0):
        figure = figures.similarity_matrix(scale * symmetric(3), list("abc"), ["p"] * 3, "T", "L")
        assert not figure.axes[0].patches
        assert not figure.legends
        assert figure.axes[0].images[0].get_clim() == (0.0, 1.0)


@pytest.mark.parametrize(("runs", "numbers"), [(20, 380), (21, 0)])
def test_matrix_writes_numbers_where_they_can_be_read(runs: int, numbers: int) -> None:
    names = [str(run) for run in range(runs)]
    figure = figures.similarity_matrix(symmetric(runs), names, ["p"] * runs, "T", "L")
    assert len(figure.axes[0].texts) == numbers


def test_a_matrix_of_other_runs_is_refused() -> None:
    for runs, groups in ((3, ["p"] * 2), (2, ["p"] * 3), (0, [])):
        with pytest.raises(ValueError, match="give"):
            figures.similarity_matrix(symmetric(runs), ["a", "b"][:runs], groups, "T", "L")


def test_violins_show_medians_and_quartiles_side_by_side() -> None:
    groups = {
        measure: {"u₁": rng.normal(0.8, 0.1, (6, 500)), "α": rng.normal(0.2, 0.1, 50)}
        for measure in ("cosine", "Pearson")
    }
    groups["cosine"]["α"][:3] = np.nan
    figure = figures.similarity_violins(groups, "Similarity", "similarity")
    axes = figure.axes[0]
    values = [kind for group in groups.values() for kind in group.values()]
    expected = [np.nanpercentile(kind, (25, 50, 75)) for kind in values]
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert_allclose([line.get_ydata()[0] for line in points], [median for _, median, _ in expected])
    bars = [found.get_segments()[0] for found in axes.collections if hasattr(found, "get_segments")]
    assert_allclose([bar[:, 1] for bar in bars], [(first, third) for first, _, third in expected])
    assert notes(figure) == [*(f"{median:.2f}" for _, median, _ in expected), "median"]
    violins = [found for found in axes.collections if not hasattr(found, "get_segments")]
    places = axes.get_xticks()
    for body, kind, place, colour in zip(violins, values, places, KIND_COLOURS[:2] * 2, strict=True):
        corners = body.get_paths()[0].vertices
        assert_allclose([corners[:, 1].min(), corners[:, 1].max()], [np.nanmin(kind), np.nanmax(kind)])
        assert_allclose(corners[:, 0].mean(), place, atol=0.02)
        assert to_hex(body.get_facecolor()[0]) == to_hex(colour)
    assert words(axes.get_xticklabels()) == ["u₁", "α"] * 2
    assert words(axes.child_axes[0].get_xticklabels()) == ["cosine", "Pearson"]


def test_few_values_are_points_and_none_are_named() -> None:
    few = np.array([0.1, 0.4, 0.3, np.nan])
    figure = figures.similarity_violins({"Pearson": {"u₁": few, "α": few[3:]}}, "T", "L")
    (points,) = figure.axes[0].collections
    assert_array_equal(points.get_offsets()[:, 1], few[:3])
    assert notes(figure) == ["0.30", "none", "median"]


def test_groups_of_other_kinds_are_refused() -> None:
    values = np.arange(3.0)
    for groups in (
        {},
        {"a": {}},
        {"a": {"u": values, "α": values}, "b": {"u": values}},
        {"a": dict.fromkeys("uvwx", values)},
    ):
        with pytest.raises(ValueError, match="groups"):
            figures.similarity_violins(groups, "T", "L")


def test_intervals_lie_from_low_to_high_under_their_headings() -> None:
    rows = [
        row("u₁", "conv1", 0.4),
        row("α", "conv1", -0.004),
        row("u₁", "relu2", 0.8),
        row("α", "relu2", 0.3),
    ]
    figure = figures.interval_plot(rows, "Layers", "Pearson correlation")
    axes = figure.axes[0]
    points = axes.lines
    assert_allclose([point.get_xdata()[0] for point in points], [own.estimate for own in rows])
    bars = [found.get_segments()[0] for found in axes.collections]
    assert_allclose([bar[:, 0] for bar in bars], [(own.low, own.high) for own in rows])
    places = [point.get_ydata()[0] for point in points]
    assert_allclose([bar[:, 1] for bar in bars], np.repeat(places, 2).reshape(-1, 2))
    colours = [point.get_color() for point in points]
    assert colours[:2] == colours[2:]
    assert colours[0] != colours[1]
    labels = dict(zip(axes.get_yticks(), words(axes.get_yticklabels()), strict=True))
    assert axes.yaxis_inverted()
    assert [labels[place] for place in sorted(labels)] == ["conv1", "u₁", "α", "relu2", "u₁", "α"]
    numbers = words(axes.child_axes[0].get_yticklabels())
    assert numbers[:2] == ["0.40 [0.30, 0.60]", "0.00 [−0.10, 0.20]"]


def test_intervals_that_are_unknown_are_said_to_be() -> None:
    nothing = float("nan")
    rows = [row("a", ""), IntervalRow("b", "", 0.7, nothing, nothing), IntervalRow("c", "", *[nothing] * 3)]
    rows.append(IntervalRow("d", "", float("inf"), 3.0, float("inf")))
    figure = figures.interval_plot(rows, "T", "x")
    axes = figure.axes[0]
    assert len(axes.collections) == 1
    numbers = words(axes.child_axes[0].get_yticklabels())
    assert numbers == ["0.50 [0.40, 0.70]", "0.70", "no value", "inf"]
    assert figures.figure_png(figure)
    with pytest.raises(ValueError, match="at least one"):
        figures.interval_plot([], "T", "x")


def test_a_long_heading_is_wrapped_and_not_cut() -> None:
    heading = "cross-validated by blocks, brightness normalised"
    axes = figures.interval_plot([row("a", heading), row("b", "short")], "T", "x").axes[0]
    places = dict(zip(words(axes.get_yticklabels()), axes.get_yticks(), strict=True))
    (wrapped,) = (text for text in places if text.replace("\n", " ") == heading)
    assert wrapped.count("\n") == 1
    assert places["a"] - places[wrapped] > places["b"] - places["short"]


def test_what_points_and_bars_are_stands_above_the_numbers() -> None:
    rows = [row("a", ""), row("b", "")]
    assert notes(figures.interval_plot(rows, "T", "x")) == ["estimate [95 % interval]"]
    told = figures.interval_plot(rows, "T", "x", numbers="mean [lowest, highest fold]")
    assert notes(told) == ["mean [lowest, highest fold]"]


def test_training_curve_holds_bands_above_and_accuracies_below() -> None:
    iterations = np.array([0, 10, 30, 70])
    estimate = np.array([np.nan, 0.2, 0.6, 0.7])
    curves = {"u₁": (estimate, estimate - 0.1, estimate + 0.2), "α": (estimate / 2, estimate / 3, estimate)}
    accuracy = {"reduced": rng.random((3, 4)), "u₁": rng.random(4)}
    figure = figures.training_curve(iterations, curves, accuracy, "Training", "Pearson", threshold=0.95)
    above, below = figure.axes
    for line, band, (middle, low, high) in zip(above.lines, above.collections, curves.values(), strict=True):
        assert_array_equal(line.get_ydata(), middle)
        corners = band.get_paths()[0].vertices
        for iteration, *ends in zip(iterations[1:], low[1:], high[1:], strict=True):
            own = corners[corners[:, 0] == iteration, 1]
            assert_allclose([own.min(), own.max()], ends)
    *runs, threshold = below.lines
    expected = [*accuracy["reduced"], accuracy["u₁"]]
    assert_array_equal([line.get_ydata() for line in runs], expected)
    assert words(below.get_legend().get_texts()) == ["reduced, 3 runs", "u₁"]
    assert words(above.get_legend().get_texts()) == ["u₁", "α"]
    colours = [line.get_color() for line in above.lines]
    assert runs[3].get_color() == colours[0]
    assert len({line.get_color() for line in runs[:3]} | set(colours)) == 3
    assert threshold.get_ydata()[0] == 0.95
    with pytest.raises(ValueError, match="at most 6"):
        figures.training_curve(iterations, {str(k): curves["α"] for k in range(7)}, {}, "T")


def test_seed_panel_has_one_scale_over_all_runs() -> None:
    gradients = list(rng.random((2, 24, 36)))
    columns = {f"seed {k}": [(9.0**k) * rng.random((12, 18)) for _ in gradients] for k in range(3)}
    columns["seed 0"] = [np.zeros((12, 18)), np.zeros((12, 18))]
    columns["seed 0"][1][3, 4:6] = 5.0
    figure = figures.seed_panel(columns, gradients, ["a", "b"], "Seeds", (2.0, 3.0))
    grid = np.array([axes for axes in figure.axes if axes.images]).reshape(2, 4)
    for panels, images in zip(grid[:, 1:].T, columns.values(), strict=True):
        for panel, image in zip(panels, images, strict=True):
            size = np.sqrt((image**2).mean()) or 1.0
            assert_allclose(panel.images[0].get_array(), image / size)
            assert panel.images[0].get_extent() == [0, 108, 48, 0]
    (limits,) = {panel.images[0].get_clim() for panel in grid[:, 1:].flat}
    assert limits[0] == 0
    # One spot of 10 root mean squares doesn't darken the others, whose largest pixel is below 2.
    assert 1.0 < limits[1] < 2.0
    assert_array_equal(grid[1, 0].images[0].get_array(), gradients[1])
    assert [axes.get_title() for axes in grid[0]] == ["|∇Y|", *columns]
    assert any("unit root mean square" in text for text in words(figure.findobj(Text)))
    for few in ({"seed 0": gradients[:1]}, {"seed 0": [*gradients, gradients[0]]}):
        with pytest.raises(ValueError, match="argument 2 is"):
            figures.seed_panel(few, gradients, ["a", "b"], "Seeds")


def test_order_puts_the_largest_above_and_ties_on_one_level() -> None:
    values = {
        "mean α": np.array([0.1, 0.3, 0.4, 0.2]),
        "mean |∇Y|": np.array([5.0, 7.0, 9.0, 7.0]),
        "toughness": np.array([0.16, 1.03, np.nan, -0.83]),
    }
    figure = figures.order_plot(values, ["s1", "s2", "s3", "s4"])
    axes = figure.axes[0]
    expected = np.array([[4, 2, 1, 3], [4, 2.5, 1, 2.5], [2, 1, np.nan, 3]])
    assert_array_equal([line.get_ydata() for line in axes.lines], expected.T)
    ranks = [rankdata(-own, nan_policy="omit") for own in values.values()]
    assert_array_equal(ranks, expected)
    assert axes.yaxis_inverted()
    assert len({line.get_color() for line in axes.lines}) == 4
    left, right = (words(side.get_yticklabels()) for side in (axes, axes.child_axes[0]))
    assert (left, right) == (["s3", "s2", "s4", "s1"], ["s2", "s1", "s4"])
    assert notes(figure) == ["0.1", "0.3", "0.4", "0.2", "5", "7", "9", "7", "0.16", "1.03", "−0.83"]
    tied = figures.order_plot({"q": np.array([1.0, 1.0])}, ["s1", "s2"])
    assert words(tied.axes[0].get_yticklabels()) == ["s1\ns2"]
    for wrong in ({}, {"q": np.arange(3.0)}, {"q": np.arange(4.0), "r": np.arange(3.0)}):
        with pytest.raises(ValueError, match="4 samples"):
            figures.order_plot(wrong, ["s1", "s2", "s3", "s4"])


def test_leakage_is_the_mean_difference_of_seeds_that_have_both() -> None:
    random = {"paper": np.array([1.0, 0.98, 0.9]), "reduced": np.array([0.9])}
    block = {"paper": np.array([0.9, np.nan, 0.88]), "reduced": np.array([0.95])}
    figure = figures.leakage_bars(random, block, chance=0.25)
    axes = figure.axes[0]
    assert notes(figure) == ["+6.0 points", "−5.0 points"]
    points = [found for found in axes.collections if not hasattr(found, "get_segments")]
    own = [np.ma.filled(found.get_offsets()[:, 1].astype(float), np.nan) for found in points]
    expected = [split[preset] for preset in random for split in (random, block)]
    for drawn, values in zip(own, expected, strict=True):
        assert_array_equal(drawn, values)
    means = [found.get_segments()[0][0, 1] for found in axes.collections if hasattr(found, "get_segments")]
    assert_allclose(means, [np.nanmean(values) for values in expected])
    joined = [line.get_ydata() for line in axes.lines if len(line.get_ydata()) == 2][:4]
    pairs = [pair for preset in random for pair in zip(random[preset], block[preset], strict=True)]
    assert_array_equal(joined, pairs)
    with pytest.raises(ValueError, match="presets"):
        figures.leakage_bars(random, {"paper": block["paper"]})
    with pytest.raises(ValueError, match="seeds"):
        figures.leakage_bars(random, {**block, "paper": np.ones(2)})


def test_leakage_names_the_split_that_it_is_told() -> None:
    accuracy = {"paper": np.array([1.0, 0.9])}
    for options, name in (({}, "block"), ({"held_out": "specimen"}, "specimen")):
        figure = figures.leakage_bars(accuracy, accuracy, **options)
        assert words(figure.axes[0].get_xticklabels()) == ["random", name]
        title = figure.get_suptitle().replace("\n", " ")
        assert f"by random and by {name} split" in title
        assert f"random − {name}" in title


def test_captions_of_a_study_have_two_sentences_and_names_of_their_own() -> None:
    assert len(figures.STUDY_CAPTIONS) >= 7
    assert not set(figures.STUDY_CAPTIONS) & set(figures.CAPTIONS)
    for name, caption in figures.STUDY_CAPTIONS.items():
        assert len(caption.text.rstrip(".").split(". ")) == 2, name
        assert caption.text.endswith("."), name
        assert caption.title, name


def test_intervals_over_slices_only_are_marked() -> None:
    rows = [row("a", ""), row("b", "")._replace(over_slices=True)]
    figure = figures.interval_plot(rows, "T", "x")
    assert notes(figure) == ["estimate [95 % interval]\n* over slices only"]
    numbers = words(figure.axes[0].child_axes[0].get_yticklabels())
    assert numbers == ["0.50 [0.40, 0.70]", "0.50 [0.40, 0.70]*"]
