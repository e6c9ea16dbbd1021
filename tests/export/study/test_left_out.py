"""Runs under the accuracy that counts are named and enter no similarity; a study of few runs ends too."""

import re
from pathlib import Path

import numpy as np
import pytest
import studies
from commands import parsed

from eigenfeatures.export.study.opened import OpenStudy
from eigenfeatures.export.study.plan import make_plan
from eigenfeatures.export.study.runs_table import runs_part
from eigenfeatures.export.study.subjects import StudyRun

pytestmark = pytest.mark.usefixtures("no_figures")

OF_SIMILARITY = (
    "similarity",
    "u1_against_alpha",
    "pairs",
    "runs_by_slice",
    "agreement",
    "clarity",
    "settings",
)


def page_of(out):
    return (out / "study.html").read_text(encoding="utf-8")


def named_in(text):
    """The runs that are said to be left out, and their accuracies."""
    listed = re.search(
        r"figure of similarity, their validation accuracy being under 0.95: ([^<\n]*?\))\.", text
    )
    return {name: value.rstrip("0") for name, value in re.findall(r"([\w-]+) \(([\w.]+)\)", listed[1])}


def tables_of(out):
    return {path.stem for path in (out / "tables").iterdir()}


def figures_of(out):
    return {path.stem for path in (out / "figures").iterdir()}


def test_a_run_below_the_threshold_is_named_and_enters_no_similarity(finished, tmp_path):
    """0.95 counts, and what is less does not: two of three runs are then of one network."""
    core = [f"{preset}-seed{seed}" for preset in studies.PRESETS for seed in range(studies.SEEDS)]
    out = studies.copy_study(finished.folder, tmp_path / "study", runs=core)
    studies.set_accuracy(out / "runs" / "small-seed0", 0.95)
    studies.set_accuracy(out / "runs" / "small-seed1", 0.949)
    answer = studies.study(finished.samples, out, *studies.CORE, "--resume", "--json")
    assert parsed(answer)["core_runs_that_count"] == "3 of 4"

    runs = studies.table(out, "runs")
    counts = dict(zip(runs["run"], runs["counts"], strict=True))
    assert counts == {**dict.fromkeys(core, "yes"), "small-seed1": "left out"}
    for text in (page_of(out), (out / "summary.md").read_text(encoding="utf-8")):
        assert named_in(text) == {"small-seed1": "0.949"}

    pairs, by_slice = (studies.table(out, name) for name in ("pairs", "runs_by_slice"))
    counted = {"small-seed0", "reduced-seed0", "reduced-seed1"}
    assert {*pairs["first"], *pairs["second"]} == set(by_slice["run"]) == counted
    assert set(studies.table(out, "similarity")["group"]) == {"reduced", "small × reduced"}
    for name in OF_SIMILARITY:
        assert "small-seed1" not in (out / "tables" / f"{name}.csv").read_text(encoding="utf-8")
    assert set(studies.table(out, "settings")["network"]) == {"reduced"}

    whole = studies.table(finished.folder, "pairs")
    rest = (whole["first"] != "small-seed1") & (whole["second"] != "small-seed1")
    for name, values in pairs.items():
        np.testing.assert_array_equal(values, whole[name][rest], err_msg=name)


def test_a_study_with_one_run_that_counts_ends_and_says_so(finished, tmp_path):
    out = studies.copy_study(finished.folder, tmp_path / "study")
    studies.set_accuracy(out / "runs" / "small-seed1", 0.5)
    answer = studies.study(finished.samples, out, "--presets", "small", "--seeds", "2", "--resume", "--json")
    assert parsed(answer)["core_runs_that_count"] == "1 of 2"
    assert "no pair to compare" in page_of(out)
    assert named_in(page_of(out)) == {"small-seed1": "0.5"}
    assert tables_of(out) == {
        *("agreement", "clarity", "gradient_image", "discrimination", "order", "order_agreement", "runs")
    }
    assert not [
        name for name in figures_of(out) if name.startswith(("similarity", "settings", "training_curve"))
    ]
    agreement = studies.table(out, "agreement")
    assert set(agreement["runs"]) == {0}, "of slices only"
    scores = studies.table(out, "discrimination")
    assert set(scores["run"][scores["strength"] == "kept"]) == {0}


def test_a_study_without_a_run_that_counts_ends_and_says_so(finished, tmp_path):
    """The runs of a further plan may count nevertheless."""
    claims = [
        path.name
        for path in (finished.folder / "runs").glob("small-*")
        if re.search("none|64|dataset", path.name)
    ]
    assert len(claims) == 6
    core = ["small-seed0", "small-seed1"]
    out = studies.copy_study(finished.folder, tmp_path / "study", runs=[*core, *claims])
    for name in core:
        studies.set_accuracy(out / "runs" / name, 0.5)
    answer = studies.study(
        *(finished.samples, out, "--presets", "small", "--seeds", 2, "--also", "claims"),
        *("--also-preset", "small", "--also-seeds", 2, "--resume", "--json"),
    )
    assert parsed(answer)["core_runs_that_count"] == "0 of 2"
    page = page_of(out)
    assert "no pair to compare" in page
    for text in (answer.error, page.partition("<h2>Are the features")[0]):
        assert "2 of 2 core runs do not count" in text
        assert "after 15 iterations; give more --iterations" in text
    assert "no run counts, so samples are not ranked" in page.lower()
    assert named_in(page) == {"small-seed0": "0.5", "small-seed1": "0.5"}
    assert tables_of(out) == {"claims", "order", "order_agreement", "runs"}
    groups = set(studies.table(out, "claims")["group"])
    assert groups == {
        f"{what}, between seeds"
        for what in ("augmentation: none", "batches of 64", "standardised by dataset")
    }


def test_a_study_whose_trainings_all_diverge_ends_and_says_so(samples, tmp_path):
    out = tmp_path / "study"
    answer = studies.study(
        *(samples, out, "--presets", "small", "--seeds", 2, "--learning-rate", "1e30", "--json")
    )
    facts = parsed(answer)
    assert facts["diverged"] == 2
    assert facts["core_runs_that_count"] == "0 of 2"
    assert "more --iterations" not in answer.error
    assert (
        len(re.findall(r"small-seed[01] diverged: the training loss is no longer finite", answer.error)) == 2
    )
    assert named_in(page_of(out)) == {"small-seed0": "diverged", "small-seed1": "diverged"}
    runs = studies.table(out, "runs")
    assert list(runs["counts"]) == ["left out", "left out"]
    assert np.all(np.isnan(runs["validation_accuracy"]))


def test_every_run_is_listed_once_though_further_plans_have_more_seeds():
    plan = make_plan(studies.BASE, ["small"], 2, ["claims"], "small", 3)
    runs = {name: StudyRun(name, Path(name), settings, 0.96) for name, settings in plan.runs().items()}
    part = runs_part(OpenStudy(studies.BASE, plan, runs, *[None] * 4))
    listed = part.tables["runs"]["run"]
    assert len(listed) == 3 + 3 * 3
    assert sorted(listed) == sorted(runs)
    assert part.findings == ["All trainings but null models reached a validation accuracy of 0.95."]
