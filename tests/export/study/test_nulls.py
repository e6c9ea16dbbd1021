"""Null models behave as such: untrained networks are that, and shuffled labels can't be learned."""

import numpy as np
import pytest
import studies
import torch

from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.preprocessing import sample_statistics
from eigenfeatures.eigen.progress import silent
from eigenfeatures.eigen.study.analysis import blocks_of
from eigenfeatures.eigen.study.maps import View
from eigenfeatures.export.settings import Settings
from eigenfeatures.export.study.nulls import nulls_part
from eigenfeatures.export.study.opened import OpenStudy
from eigenfeatures.export.study.passes import Passes
from eigenfeatures.export.study.plan import make_plan
from eigenfeatures.export.study.subjects import study_runs
from eigenfeatures.export.study.trainings import train_runs
from eigenfeatures.export.tables import numbers, read_table
from eigenfeatures.export.talk import Talk

LAYER = "relu2"
CHANCE = 1 / len(studies.LENGTHS)
NOT_LEARNED = "stability is the image's and the architecture's, and not what was learned"


@pytest.fixture(scope="module")
def runs(finished):
    """Every run of the core and of the claims, by its name."""
    plan = make_plan(studies.BASE, studies.PRESETS, studies.SEEDS, ["claims"], "small", studies.SEEDS)
    groups = (*plan.core, *plan.further)
    return {run.name: run for group in groups for run in study_runs(finished.folder / "runs", group)}


def tensors(subject):
    return subject.load(LAYER).network.state_dict()


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert torch.equal(found[name], values), name


@pytest.mark.parametrize("name", ["small-seed0", "small-seed1", "reduced-seed1"])
def test_an_untrained_network_is_the_trained_one_before_its_first_iteration(name, runs, opened):
    run = runs[name]
    untrained = tensors(run.untrained(opened))
    fresh = build_network(run.settings.preset, 3, opened.size, run.settings.seed).up_to(LAYER).state_dict()
    trained = tensors(run.trained)
    for weight in ("conv1.weight", "conv2.weight"):
        assert torch.equal(untrained[weight], fresh[weight])
        assert not torch.equal(untrained[weight], trained[weight])
    assert_equal(untrained, tensors(run.at(0, LAYER)))


def test_how_a_run_was_trained_does_not_matter_to_its_untrained_network(runs, opened):
    plain, other = (runs[name].untrained(opened) for name in ("small-seed0", "small-augment-none-seed0"))
    assert_equal(tensors(other), tensors(plain))
    different = tensors(runs["small-seed1"].untrained(opened))
    assert not torch.equal(different["conv1.weight"], tensors(plain)["conv1.weight"])


@torch.inference_mode()
def test_the_normalisation_of_an_untrained_network_is_that_of_the_training_slices(runs, opened, finished):
    """Without it the first layers would see another scale than in the training."""
    entry = runs["small-seed0"].untrained(opened).load(LAYER)
    split = np.array(read_table(finished.folder / "runs" / "small-seed0" / "slices.csv")["split"])
    images = torch.from_numpy(entry.preprocessing(opened.read(np.flatnonzero(split == "train"))))[:, None]
    network = dict(entry.network.named_children())
    normal = network["norm1"](network["conv1"](images))
    assert float(normal.mean((0, 2, 3)).abs().max()) < 0.1
    assert float((normal.std((0, 2, 3)) - 1).abs().max()) < 0.1
    fresh = dict(build_network("small", 3, opened.size, 0).eval().named_children())
    unscaled = fresh["norm1"](fresh["conv1"](images))
    assert float((unscaled.std((0, 2, 3)) - 1).abs().max()) > 0.3


def test_training_changes_what_networks_see(finished):
    found = studies.estimates(finished.folder, "nulls")
    for name in studies.PRESETS:
        crossed = [
            mean
            for (group, quantity), mean in found.items()
            if group.startswith(f"{name} × untrained") and quantity == "u1/pearson"
        ]
        assert crossed
        assert max(crossed) < 0.95
        assert abs(found[name, "u1/pearson"] - found[f"{name}, untrained", "u1/pearson"]) > 0.01
    assert ("small, shuffled labels", "u1/pearson") in found
    assert [group for group, _ in found if group.startswith("small × shuffled labels")]


def test_shuffled_labels_are_not_learned(finished):
    table = studies.table(finished.folder, "runs")
    shuffled = table["plan"] == "nulls"
    assert list(table["run"][shuffled]) == ["small-shuffled-seed0", "small-shuffled-seed1"]
    assert set(table["counts"][shuffled]) == {"null model"}
    # The few validation slices of a sample are alike, so that chance comes in thirds.
    assert np.mean(table["validation_accuracy"][shuffled]) < 2 * CHANCE + 0.05
    assert np.all(table["validation_accuracy"][table["plan"] == "core"] >= 0.95)
    last = {
        name: numbers(read_table(finished.folder / "runs" / name / "training.csv")["training_loss"])[-1]
        for name in ("small-seed0", "small-seed1", "small-shuffled-seed0", "small-shuffled-seed1")
    }
    learned, not_learned = (
        [last[f"small{what}-seed{seed}"] for seed in (0, 1)] for what in ("", "-shuffled")
    )
    assert min(not_learned) > 0.8 * np.log(3), "as of a guess"
    assert max(learned) < 0.75 * min(not_learned)


def test_networks_that_were_hardly_trained_are_told_from_trained_ones_by_the_verdict(
    samples, opened, tmp_path
):
    """The negative control: with next to no learning, what is stable is not what was learned."""
    base = Settings(preset="small", iterations=1, learning_rate=1e-9, batch_size=16, device="cpu")
    plan = make_plan(base, ["small"], 3, ["nulls"], "small", 3)
    talk = Talk(silent, lambda _: None)
    train_runs(samples, tmp_path / "runs", plan.runs(), LAYER, 1, 2, talk)
    for name in plan.runs():
        studies.set_accuracy(tmp_path / "runs" / name, 1.0)
    passes = Passes(
        samples=opened,
        inputs={},
        folder=tmp_path / "measured",
        view=View(LAYER, rank=8),
        operator="sobel",
        device=torch.device("cpu"),
        talk=talk,
    )
    study = OpenStudy(
        base,
        plan,
        {
            run.name: run
            for group in (*plan.core, *plan.further)
            for run in study_runs(tmp_path / "runs", group)
        },
        opened,
        sample_statistics(opened, "sobel"),
        blocks_of(opened),
        passes,
    )
    part = nulls_part(study)
    assert NOT_LEARNED in part.answer
    assert "more stable in small" not in part.answer
    columns = part.tables["nulls"]
    found = dict(zip(zip(columns["group"], columns["quantity"], strict=True), columns["mean"], strict=True))
    for quantity in ("u1/pearson", "u1/beyond_image", "alpha/pearson"):
        assert found["small", quantity] == pytest.approx(found["small, untrained", quantity], abs=1e-3)
        assert found["small", quantity] == pytest.approx(found["small, shuffled labels", quantity], abs=1e-3)
