"""Samples that can't be compared: what is said of them, in the terminal and in the report."""

import html
import shutil

import numpy as np
import pytest
import tifffile
from commands import QUICK, assert_refused, call

from eigenfeatures.eigen.samples import open_samples
from eigenfeatures.export.tables import numbers, read_table


@pytest.fixture(scope="module")
def run(stacks, tmp_path_factory):
    """Samples a of uint8 and 2 µm, b of uint16 and 3 µm, and what a run on them said."""
    folder = tmp_path_factory.mktemp("unlike")
    (folder / "samples").mkdir()
    shutil.copy(stacks / "sample1.tif", folder / "samples" / "a.tif")
    other = tifffile.imread(stacks / "sample2.tif").astype(np.uint16) * 200
    metadata = {"axes": "ZYX", "unit": "um", "spacing": 3.0}
    tifffile.imwrite(
        folder / "samples" / "b.tif", other, imagej=True, resolution=(1 / 3, 1 / 3), metadata=metadata
    )
    answer = call("run", folder / "samples", "--out", folder / "run", *QUICK)
    assert answer.code == 0, answer.error
    return folder, answer.error


def test_notes_on_the_stacks_are_in_the_terminal_and_in_the_report(run):
    folder, said = run
    report = html.unescape((folder / "run" / "report.html").read_text(encoding="utf-8"))
    with open_samples(folder / "samples") as samples:
        assert any(note.startswith("samples differ in type (uint8: a; uint16: b)") for note in samples.notes)
        assert any(note.startswith("the stacks state no common voxel size") for note in samples.notes)
        for note in samples.notes:
            assert note in said.splitlines()
            assert f"<li>{note}</li>" in report


def test_a_report_has_no_section_of_notes_where_there_are_none(finished_run, stacks, tmp_path):
    """The phantom's folder without the file that is ignored."""
    shutil.copytree(stacks, tmp_path / "samples", ignore=shutil.ignore_patterns("README.txt"))
    shutil.copytree(finished_run, tmp_path / "run")
    record = tmp_path / "run" / "run.toml"
    text = record.read_text(encoding="utf-8").replace(str(stacks), str(tmp_path / "samples"))
    record.write_text(text, encoding="utf-8")
    assert call("report", tmp_path / "run").code == 0
    for folder, noted in ((finished_run, True), (tmp_path / "run", False)):
        assert ("Notes on the stacks" in (folder / "report.html").read_text(encoding="utf-8")) == noted


def test_a_stack_of_the_training_is_refused_with_what_makes_it_fit(run, tmp_path):
    folder, _ = run
    model, stack = folder / "run" / "model.onnx", folder / "samples" / "a.tif"
    told = "convert the stack, without scaling, as the training's uint16 and uint8 stacks were"
    assert_refused(
        call("infer", model, stack, "--out", tmp_path / "refused"), f"model takes float32; {told}$"
    )
    tifffile.imwrite(tmp_path / "a.tif", tifffile.imread(stack).astype(np.float32), photometric="minisblack")
    answer = call("infer", model, tmp_path / "a.tif", "--out", tmp_path / "out")
    assert answer.code == 0, answer.error
    ours, theirs = read_table(folder / "run" / "slices.csv"), read_table(tmp_path / "out" / "slices.csv")
    expected = numbers(ours["probability"])[: len(theirs["slice"])]
    np.testing.assert_allclose(numbers(theirs["probability"]), expected, rtol=1e-4)
