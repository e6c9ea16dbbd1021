"""What the README and the pages of docs/ show works: every command line is understood, every example runs."""

import re
import shlex
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import tifffile
import typer
import zarr
from commands import COMMANDS, ENVIRONMENT

from eigenfeatures import export
from eigenfeatures.export import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def command_lines(page):
    """Every call of ``eigenfeatures`` in the fenced blocks of a page, split as a shell does."""
    for language, block in FENCED.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            continue
        for line in block.replace("\\\n", " ").splitlines():
            for call in re.split(r"&&|;|\|", line):
                words = shlex.split(call, comments=True)
                if words[:1] == ["eigenfeatures"]:
                    yield words[1:]


LINES = [(page.relative_to(ROOT).as_posix(), words) for page in PAGES for words in command_lines(page)]


def understand(words):
    """Let the command parse its arguments, which refuses unknown ones, and do nothing."""
    group = typer.main.get_command(cli.app)
    assert words[0] in group.commands, f"no command '{words[0]}'"
    with pytest.raises(typer.Exit) if "--help" in words else nullcontext():
        group.commands[words[0]].make_context(words[0], list(words[1:]))


def test_the_command_lines_are_found():
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    assert len(LINES) >= sum(len(re.findall(r"^eigenfeatures ", text, re.MULTILINE)) for text in texts) > 20
    assert {*COMMANDS, "study"} <= {words[0] for page, words in LINES if page == "README.md"}
    assert any(page == "docs/cluster.md" for page, _ in LINES)


@pytest.mark.parametrize(
    "words", [words for _, words in LINES], ids=[f"{page}: {' '.join(words)}" for page, words in LINES]
)
def test_a_command_line_is_understood(words):
    understand(words)


@pytest.mark.parametrize(
    "line", ["infer run1 scan.tif --out results --evry 4", "phantom a --size x", "export", "infre run1"]
)
def test_a_command_line_with_a_mistake_is_not(line):
    with pytest.raises((typer.TyperException, AssertionError)):
        understand(line.split())


def example(word):
    """The one example of the README in Python that holds a word."""
    blocks = [
        block for language, block in FENCED.findall(PAGES[0].read_text("utf-8")) if language == "python"
    ]
    (found,) = [block for block in blocks if word in block]
    return found


def test_every_example_of_the_readme_is_run_here():
    text = PAGES[0].read_text(encoding="utf-8")
    assert text.count("```python") == len(["for block in infer(", "onnxruntime", "truncated_svd"])


def test_the_exported_file_runs_in_plain_onnx_runtime(finished_run, stacks, tmp_path):
    """Without this package and without torch."""
    (tmp_path / "run1").mkdir()
    shutil.copy(finished_run / "model.onnx", tmp_path / "run1")
    shutil.copy(stacks / "sample1.tif", tmp_path / "scan.tif")
    barred = "import sys\nsys.modules['eigenfeatures'] = sys.modules['torch'] = None\n"
    kept = (
        "import numpy\nnumpy.savez('found.npz', probabilities=probabilities, u=u, s=s, residual=residual)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", barred + example("onnxruntime") + kept],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "(8, 2, 20, 20)" in done.stdout
    (block,) = export.infer(finished_run, stacks / "sample1.tif", device="cpu", max_memory="64GB")
    found = np.load(tmp_path / "found.npz")
    np.testing.assert_allclose(found["probabilities"], block.arrays["probabilities"][:8], atol=1e-5)
    np.testing.assert_allclose(found["u"][:, 0], block.arrays["eigenfeatures"][:8, 0], atol=1e-4)
    np.testing.assert_allclose(found["s"][:, 0], block.arrays["singular_values"][:8, 0], rtol=1e-5)
    assert found["residual"].shape == (8,)


def test_the_loop_over_blocks_runs(finished_run, stacks, tmp_path, monkeypatch):
    (tmp_path / "run1").symlink_to(finished_run)
    zarr.create_array(tmp_path / "scan.ome.zarr", data=tifffile.imread(stacks / "sample1.tif"))
    monkeypatch.chdir(tmp_path)
    shown = []
    exec(example("for block in infer("), {"print": lambda *values: shown.append(values)})  # noqa: S102
    indices, labels, shapes = zip(*shown, strict=True)
    assert np.concatenate(indices).tolist() == list(range(16))
    assert [len(block) for block in labels] == [len(block) for block in indices]
    assert {shape[1:] for shape in shapes} == {(2, 20, 20)}


def test_the_example_of_the_kernels_runs():
    exec(example("truncated_svd"), {})  # noqa: S102
