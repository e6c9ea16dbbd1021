"""The tables of a study fit together: means are those of the rows, and what is told twice is told alike."""

import csv
import json

import numpy as np
import pytest
import studies

from eigenfeatures.eigen.study.similarity import MEASURES
from eigenfeatures.export.tables import numbers, read_table

TABLES = {
    *(
        "similarity",
        "u1_against_alpha",
        "pairs",
        "runs_by_slice",
        "agreement",
        "clarity",
        "nulls",
        "gradient_image",
    ),
    *("settings", "training_curve", "claims", "discrimination", "order", "order_agreement", "runs", "splits"),
}
PAIRINGS = {
    "small": ("small", "small"),
    "reduced": ("reduced", "reduced"),
    "small × reduced": ("small", "reduced"),
}
ABOUT = ("first", "second", "sample", "specimen", "slice", "part")
OWN = "the study's own setting"
NINE_DIGITS = 1e-8
SLICES = 3 * studies.SLICES


@pytest.fixture(scope="module")
def tables(finished):
    return {name: studies.table(finished.folder, name) for name in TABLES}


def rows_of(pairs, group):
    """The rows of the pairs of a group; runs of two networks with one seed are not independent."""
    first, second = (np.char.partition(pairs[side].astype(str), "-seed") for side in ("first", "second"))
    networks = np.stack([first[:, 0], second[:, 0]], axis=1) == PAIRINGS[group]
    return networks.all(axis=1) & (first[:, 2] != second[:, 2])


def test_every_table_is_there_and_sound(finished):
    files = sorted((finished.folder / "tables").iterdir())
    assert {file.stem for file in files} == TABLES
    for file in files:
        text = file.read_text(encoding="utf-8")
        header, *rows = csv.reader(text.splitlines())
        assert len(set(header)) == len(header), file
        assert all(header), file
        assert rows, file
        assert {len(row) for row in rows} == {len(header)}, file
        assert "nan" not in text.lower().replace("dominan", ""), file


def test_pairs_are_all_pairs_of_core_runs_on_all_slices(tables):
    pairs = tables["pairs"]
    runs = ["small-seed0", "small-seed1", "reduced-seed0", "reduced-seed1"]
    found = list(zip(pairs["first"], pairs["second"], strict=True))
    expected = [(a, b) for k, a in enumerate(runs) for b in runs[k + 1 :]]
    assert list(dict.fromkeys(found)) == expected
    assert len(found) == len(expected) * SLICES
    keys = set(zip(*(pairs[name] for name in ("first", "second", "sample", "slice")), strict=True))
    assert len(keys) == len(found)
    by_slice = tables["runs_by_slice"]
    assert list(dict.fromkeys(by_slice["run"])) == runs
    assert len(by_slice["run"]) == len(runs) * SLICES


def test_means_of_similarity_are_those_of_the_pairs(finished, tables):
    pairs, found = tables["pairs"], studies.estimates(finished.folder, "similarity")
    measures = [name for name in pairs if name not in ABOUT]
    values = {name: pairs[name] for name in measures}
    for kind in ("u1", "alpha"):  # a measure more, of a part of the slices
        values[f"{kind}/validation"] = np.where(
            pairs["part"] == "validation", pairs[f"{kind}/pearson"], np.nan
        )
    assert set(found) == {(group, measure) for group in PAIRINGS for measure in values}
    for (group, measure), mean in found.items():
        expected = np.nanmean(values[measure][rows_of(pairs, group)])
        assert mean == pytest.approx(expected, rel=NINE_DIGITS), (group, measure)


def test_slices_are_of_the_part_that_the_split_says(finished, tables):
    pairs = tables["pairs"]
    slices = read_table(finished.folder / "runs" / "small-seed0" / "slices.csv")
    keys = zip(slices["sample"], map(float, slices["slice"]), strict=True)
    part = dict(zip(keys, slices["split"], strict=True))
    found = zip(pairs["sample"], pairs["slice"], strict=True)
    assert list(pairs["part"]) == [part[str(sample), float(number)] for sample, number in found]


def test_differences_of_u1_and_alpha_are_those_of_the_pairs(tables):
    pairs, tests = tables["pairs"], tables["u1_against_alpha"]
    found = set(zip(tests["group"], tests["measure"], strict=True))
    assert len(found) == len(tests["group"])
    assert found >= {(group, measure) for group in PAIRINGS for measure in MEASURES}
    for group, measure, difference in zip(
        *(tests[name] for name in ("group", "measure", "difference")), strict=True
    ):
        rows = rows_of(pairs, group)
        expected = np.nanmean((pairs[f"u1/{measure}"] - pairs[f"alpha/{measure}"])[rows])
        assert difference == pytest.approx(expected, rel=NINE_DIGITS), (group, measure)


def test_p_and_the_interval_of_a_difference_say_the_same(tables):
    tests = tables["u1_against_alpha"]
    outside = (tests["low"] > 0) | (tests["high"] < 0)
    assert np.array_equal(tests["p"] < 0.05, outside)
    assert {True, False} == set(outside)
    assert np.all((tests["superiority"] >= 0) & (tests["superiority"] <= 1))


@pytest.mark.parametrize("name", ["agreement", "clarity", "gradient_image"])
def test_means_over_runs_are_those_of_the_slices(name, finished, tables):
    by_slice = tables["runs_by_slice"]
    network = np.char.partition(by_slice["run"].astype(str), "-seed")[:, 0]
    found = studies.estimates(finished.folder, name)
    assert {group for group, _ in found} == {"small", "reduced"}
    for (group, measure), mean in found.items():
        expected = np.nanmean(by_slice[measure][network == group])
        assert mean == pytest.approx(expected, rel=NINE_DIGITS), (group, measure)


@pytest.mark.parametrize(
    "name", ["similarity", "agreement", "clarity", "gradient_image", "nulls", "settings", "claims"]
)
def test_means_lie_within_their_intervals(name, tables):
    low, mean, high = (tables[name][column] for column in ("low", "mean", "high"))
    known = np.isfinite(low)
    assert known.mean() > 0.9
    assert np.all((low <= mean)[known])
    assert np.all((mean <= high)[known])


def test_what_several_tables_tell_is_the_same(finished, tables):
    similarity, nulls, claims = (
        studies.estimates(finished.folder, name) for name in ("similarity", "nulls", "claims")
    )
    settings, curve = tables["settings"], studies.estimates(finished.folder, "training_curve")
    columns = (settings[name] for name in ("network", "setting", "state", "quantity"))
    setting = dict(zip(zip(*columns, strict=True), settings["mean"], strict=True))
    for kind in ("u1", "alpha"):
        measure = f"{kind}/pearson"
        for network in studies.PRESETS:
            assert nulls[network, measure] == similarity[network, measure]
            last = curve[f"{network} at iteration {studies.CHANGED['iterations']}", measure]
            assert setting[network, OWN, "trained", measure] == last
        unchanged = claims["standard settings, between seeds", measure]
        assert unchanged == similarity["small", measure]
        assert (
            setting["small by operator", "sobel gradient", "trained", measure]
            == setting["small", OWN, "trained", measure]
        )


def test_the_runs_are_what_their_models_say(finished, tables):
    runs = tables["runs"]
    assert len(set(runs["run"])) == len(runs["run"]) == 20
    for name, accuracy, preset, seed in zip(
        *(runs[column] for column in ("run", "validation_accuracy", "preset", "seed")), strict=True
    ):
        model = json.loads((finished.folder / "runs" / name / "model.json").read_text())
        assert accuracy == pytest.approx(model["training"]["validation_accuracy"], rel=NINE_DIGITS)
        assert preset == model["preset"]
        assert seed == model["training"]["plan"]["seed"]
        training = read_table(finished.folder / "runs" / name / "training.csv")
        assert accuracy == numbers(training["validation_accuracy"])[-1]


def test_accuracies_by_split_are_those_of_the_runs(tables):
    runs, splits = tables["runs"], tables["splits"]
    accuracy = dict(zip(runs["run"], runs["validation_accuracy"], strict=True))
    for split, name in (("random", "small-random"), ("block", "small")):
        expected = [accuracy[f"{name}-seed{seed}"] for seed in range(studies.SEEDS)]
        assert list(splits["accuracy"][splits["split"] == split]) == expected


def test_the_networks_accuracies_stand_beside_the_classifiers(tables):
    scores, runs = tables["discrimination"], tables["runs"]
    maps = (f"{kind} of {name}" for name in studies.PRESETS for kind in ("u₁", "α"))
    assert set(scores["described"]) >= {"raw slice", "|∇Y|", *maps}
    for name in studies.PRESETS:
        own = np.char.startswith(scores["described"].astype(str), f"network {name}")
        core = (runs["plan"] == "core") & (runs["preset"] == name)
        assert list(scores["validation_part"][own]) == list(runs["validation_accuracy"][core])
    shown = scores["cross_validated"][np.char.find(scores["described"].astype(str), "network") < 0]
    assert np.all((shown >= 0) & (shown <= 1))


def test_samples_are_ordered_by_what_other_tables_hold(finished, tables):
    order, by_slice = tables["order"], tables["runs_by_slice"]
    assert list(order["sample"]) == ["sample1", "sample2", "sample3"]
    assert list(order["hardness [GPa]"]) == [0.5, 1.5, 2.5]
    assert list(order["age [d]"][:2]) == [7, 9]
    assert np.isnan(order["age [d]"][2])
    slices = read_table(finished.folder / "runs" / "small-seed0" / "slices.csv")
    gradient = numbers(slices["mean_gradient"])
    for k, sample in enumerate(order["sample"]):
        own = np.array(slices["sample"]) == sample
        assert order["mean |∇Y|"][k] == pytest.approx(gradient[own].mean(), rel=NINE_DIGITS)
        for name in studies.PRESETS:
            rows = (by_slice["sample"] == sample) & (np.char.find(by_slice["run"].astype(str), name) == 0)
            expected = by_slice["activation"][rows].mean()
            assert order[f"α of {name}, relu2"][k] == pytest.approx(expected, rel=NINE_DIGITS)
