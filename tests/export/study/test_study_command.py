"""What the command says and leaves, and what it makes of its options."""

import json
import re
import tomllib
from dataclasses import replace
from unittest import mock

import pytest
import studies
from commands import call, parsed
from folders import content

from eigenfeatures.export.run_folder import RunFolder
from eigenfeatures.export.settings import Settings
from eigenfeatures.export.study.study import StudyOptions
from eigenfeatures.export.tables import read_table

CHANGED_BY_QUICK = ("iterations", "batch_size", "learning_rate")


def test_every_run_is_a_folder_as_train_leaves_it(finished):
    names = {path.name for path in (finished.folder / "runs").iterdir()}
    assert names == set(studies.table(finished.folder, "runs")["run"])
    assert len(names) == 4 + 2 * 8
    for name in names:
        files = {path.name for path in (finished.folder / "runs" / name).iterdir()}
        expected = {"run.toml", "slices.csv", "training.csv", "model.json", "model.safetensors", "snapshots"}
        assert files == expected


def test_the_time_of_each_plan_is_said_before_it_starts(finished):
    lines = [line for line in finished.answer.error.splitlines() if "ignored" not in line]
    assert lines[0] == "20 of 20 trainings are to be done"
    for what, line in zip(
        ("the core", *(f"the plan '{plan}'" for plan in studies.ALSO)), lines[1:6], strict=True
    ):
        named, _, rest = line.partition(": ")
        assert named == what
        training, comparing = re.fullmatch(
            r"training about ([\d.]+) and comparing about ([\d.]+) minutes, one run at a time", rest
        ).groups()
        assert float(training) > 0
        # Accuracies by another split are read, not measured.
        assert (float(comparing) > 0) == (what != "the plan 'splits'")
    assert lines[6] == "training 1 of 20: small-seed0 is done"
    assert lines[-1] == "training 20 of 20: small-normalise-dataset-seed1 is done"


def test_the_answer_holds_the_main_facts(finished):
    facts = parsed(finished.answer)
    assert facts["core_runs_that_count"] == "4 of 4"
    assert facts["samples"] == 3
    assert facts["slices"] == f"{3 * studies.SLICES} of {studies.SIZE}×{studies.SIZE}"
    assert facts["diverged"] == 0
    assert facts["page"] == str(finished.folder / "study.html")
    assert facts["summary"] == str(finished.folder / "summary.md")


def test_one_split_serves_all_runs_but_those_that_vary_it(finished):
    runs = sorted((finished.folder / "runs").iterdir())
    splits = {run.name: tuple(read_table(run / "slices.csv")["split"]) for run in runs}
    usual = splits["small-seed0"]
    assert set(usual) == {"train", "validation", "guard"}
    assert {name for name, split in splits.items() if split != usual} == {
        "small-random-seed0",
        "small-random-seed1",
    }
    assert splits["small-random-seed0"] == splits["small-random-seed1"]
    settings = [RunFolder.open(run).settings for run in runs]
    assert {each.split_seed for each in settings} == {0}
    assert {each.seed for each in settings} == {0, 1}


def test_runs_are_trained_as_asked_for(finished):
    for run in (finished.folder / "runs").iterdir():
        plan = json.loads((run / "model.json").read_text())["training"]["plan"]
        assert plan["iterations"] == studies.CHANGED["iterations"]
        assert plan["learning_rate"] == studies.CHANGED["learning_rate"]
        assert plan["batch_size"] == (64 if "batch64" in run.name else 32)
        assert plan["labels"] == ("shuffled" if "shuffled" in run.name else "true")
        assert plan["augment"] == ("none" if "augment-none" in run.name else "flips")


@pytest.mark.usefixtures("no_figures")
def test_a_study_that_was_stopped_ends_with_the_same_bytes(finished, tmp_path):
    """One training had been stopped before its end, and some measurements are lost."""
    out = tmp_path / "study"
    names = [path.name for path in (finished.folder / "runs").iterdir()]
    studies.copy_study(finished.folder, out, runs=names)
    for name in ("model.json", "model.safetensors", "training.csv"):
        (out / "runs" / "small-seed1" / name).unlink()
    for name in ("core", "descriptors", "curve-small-15", "small-conv1"):
        (lost,) = (out / "measured").glob(f"{name}-{'?' * 16}.npz")
        lost.unlink()
    answer = studies.study(
        finished.samples, out, *studies.EVERYTHING, "--properties", finished.properties, "--resume"
    )
    assert answer.code == 0, answer.error
    assert "1 of 20 trainings are to be done" in answer.error
    made, expected = content(out), content(finished.folder)
    assert made.keys() == expected.keys()
    differing = {name for name in made if made[name] != expected[name] and not name.endswith(".npz")}
    assert {name for name in differing if not name.startswith("figures/")} == {"study.html"}


def asked(*arguments):
    """The settings and options that the command hands on."""
    with mock.patch("eigenfeatures.export.study.study.run_study", return_value={}) as run_study:
        answer = call("study", "stacks", "--out", "out", *arguments)
    assert answer.code == 0, answer.error
    _, _, settings, options, _ = run_study.call_args.args
    return settings, options


def test_without_options_it_is_the_core_plan():
    settings, options = asked()
    assert settings == Settings()
    assert options == StudyOptions(
        ("paper", "reduced", "alexnet"), 5, also=(), also_preset="reduced", also_seeds=3, jobs=1
    )


def test_options_are_handed_on(tmp_path):
    settings, options = asked(
        *("--presets", " small, paper,", "--seeds", "4", "--also", "nulls,claims", "--also-preset", "paper"),
        *(
            "--also-seeds",
            "2",
            "--jobs",
            "3",
            "--threads",
            "4",
            "--properties",
            tmp_path / "table.csv",
            "--resume",
        ),
        *("--operator", "scharr", "--split-seed", "7", "--resolution", "dense", "--layer", "conv1"),
    )
    assert options == StudyOptions(
        *(("small", "paper"), 4, ("nulls", "claims"), "paper", 2),
        **{"jobs": 3, "threads": 4, "properties": tmp_path / "table.csv", "resume": True},
    )
    assert settings == Settings(operator="scharr", split_seed=7, resolution="dense", layer="conv1")


def test_an_option_wins_over_the_config(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('operator = "scharr"\niterations = 9\nbatch-size = 16\n')
    settings, _ = asked("--config", config, "--iterations", "5")
    assert settings == Settings(operator="scharr", iterations=5, batch_size=16)


def test_quick_is_a_small_study_unless_told_otherwise():
    settings, options = asked("--quick")
    assert settings.iterations < Settings().iterations
    assert settings == replace(Settings(), **{name: getattr(settings, name) for name in CHANGED_BY_QUICK})
    assert options == StudyOptions(("small",), 3, also_preset="small")
    changed, options = asked("--quick", "--presets", "reduced", "--seeds", "2", "--iterations", "9")
    assert changed == replace(settings, iterations=9)
    assert options == StudyOptions(("reduced",), 2, also_preset="small")


@pytest.mark.parametrize("name", ["preset", "labels", "rank"])
def test_what_a_study_chooses_itself_is_no_option(name):
    answer = call("study", "--help")
    listed = {word for line in answer.output.splitlines() for word in line.split()}
    assert "--seeds" in listed
    assert f"--{name}" not in listed


def test_the_record_says_what_was_asked_for(finished):
    record = tomllib.loads((finished.folder / "study.toml").read_text())
    assert record["samples"] == str(finished.samples)
    assert record["study"]["also"] == list(studies.ALSO)
    assert record["study"]["properties"] == str(finished.properties)
    assert record["settings"]["iterations"] == studies.CHANGED["iterations"]
    assert "preset" not in record["settings"], "the plan has networks of its own"
    assert {"eigenfeatures", "torch", "numpy"} <= record["versions"].keys()
