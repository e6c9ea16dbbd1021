"""Pictures show every run that ended: those left out of similarity are named, factors stand side by side."""

import pytest
import studies

from eigenfeatures.eigen.preprocessing import sample_statistics
from eigenfeatures.eigen.progress import silent
from eigenfeatures.eigen.samples import open_samples
from eigenfeatures.export.run_folder import hash_inputs
from eigenfeatures.export.study.pictures import pictures_part
from eigenfeatures.export.study.plan import make_plan
from eigenfeatures.export.study.study import _opened
from eigenfeatures.export.study.study_folder import StudyFolder
from eigenfeatures.export.talk import Talk

RUNS = [f"small{what}-seed{seed}" for what in ("", "-augment-none", "-batch64") for seed in (0, 1)]


@pytest.fixture(scope="module")
def exhibits(finished, tmp_path_factory):
    """The pictures of a study of one network, one of whose seeds and one of whose factors are left out."""
    runs = [*RUNS, *(f"small-normalise-dataset-seed{seed}" for seed in (0, 1))]
    out = studies.copy_study(finished.folder, tmp_path_factory.mktemp("pictures") / "study", runs=runs)
    studies.set_accuracy(out / "runs" / "small-seed1", 0.5)
    studies.set_accuracy(out / "runs" / "small-augment-none-seed0", 0.84)
    plan = make_plan(studies.BASE, ["small"], 2, ["claims"], "small", 2)
    talk = Talk(silent, lambda _: None)
    with open_samples(finished.samples) as samples:
        statistics, inputs = sample_statistics(samples, "sobel"), hash_inputs(samples, silent)
    with _opened(finished.samples, StudyFolder(out), studies.BASE, plan, inputs, statistics, talk) as study:
        return {made.name: made for made in pictures_part(study).exhibits}


def columns(exhibit):
    return [" ".join(panel.get_title().split()) for panel in exhibit.figure.axes if panel.get_title()]


def test_every_seed_is_shown_and_those_left_out_are_named(exhibits):
    for what in ("seeds_eigenfeatures", "seeds_strongest_channels"):
        assert columns(exhibits[f"{what}_small"]) == ["|∇Y|", "seed 0", "seed 1 (left out, 0.50)"]


def test_one_seed_is_shown_under_every_factor(exhibits):
    for what in ("seeds_eigenfeatures", "seeds_strongest_channels"):
        assert columns(exhibits[f"{what}_small_by_factor"]) == [
            "|∇Y|",
            "standard settings",
            "augmentation: none (left out, 0.84)",
            "batches of 64",
            "standardised by dataset",
        ]
