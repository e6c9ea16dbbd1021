"""What TF32 changes is measured before a job begins."""

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from commands import random_stack
from fake_engine import FakeEngine

from eigenfeatures.export.batch import opening
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.options import Options


class Rounding(FakeEngine):
    """Probabilities that are off by 1/8, and eigenfeatures that are turned by 0.6 radian."""

    def __call__(self, slices):
        found = super().__call__(slices)
        u = found["eigenfeatures"]
        across = np.random.default_rng(0).standard_normal(u.shape)
        across -= u * (np.sum(u * across, (1, 2, 3)) / np.sum(u * u, (1, 2, 3)))[:, None, None, None]
        across *= np.linalg.norm(u) / np.linalg.norm(across)
        return found | {
            "probabilities": found["probabilities"] + np.float32([0.125, -0.125]),
            "eigenfeatures": (np.cos(0.6) * u + np.sin(0.6) * across).astype(np.float32),
        }


@pytest.mark.parametrize(("stacks", "compared"), [(1, 1), (3, 3), (20, 8)])
def test_tf32_is_measured_on_a_slice_of_stacks(stacks, compared, tmp_path, monkeypatch):
    paths = [tmp_path / f"{number:02}.tif" for number in range(stacks)]
    for path in paths:
        tifffile.imwrite(path, random_stack(), photometric="minisblack")
    opened, said = [], []

    def open_engine(*_, tf32, **__):
        opened.append(Rounding() if tf32 else FakeEngine())
        return opened[-1]

    monkeypatch.setattr(opening, "open_engine", open_engine)
    with opening.open_work(Path("fake"), paths, Options(tf32=True), Clock(), said.append) as (engine, _):
        assert engine is opened[0]
        assert [one.closed for one in opened] == [False, True]
    assert opened[0].batches == opened[1].batches == [1] * compared
    assert said[-1].startswith(f"TF32 against float32, by {compared} slices: ")
    told = {name: float(value) for name, value in re.findall(r"(\w+) (\d\.\d+)", said[-1])}
    assert told["largest_difference_of_probabilities"] == pytest.approx(0.125, abs=1e-6)
    assert told["u1_cosine_minimum"] == pytest.approx(np.cos(0.6), abs=1e-5)
    assert told["largest_difference_of_sigma1"] == 0


def test_outputs_that_tell_nothing_of_tf32_say_so(tmp_path, monkeypatch):
    class Residuals(FakeEngine):
        def __call__(self, slices):
            return {"residual": super().__call__(slices)["residual"]}

    tifffile.imwrite(tmp_path / "a.tif", random_stack(), photometric="minisblack")
    said = []
    monkeypatch.setattr(opening, "open_engine", lambda *_, **__: Residuals())
    with opening.open_work(Path("fake"), [tmp_path / "a.tif"], Options(tf32=True), Clock(), said.append):
        pass
    assert said[-1] == "TF32 against float32, by 1 slices: these outputs tell nothing of it"


def test_float32_is_compared_with_nothing(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", random_stack(), photometric="minisblack")
    engine, said = FakeEngine(), []
    monkeypatch.setattr(opening, "open_engine", lambda *_, **__: engine)
    with opening.open_work(Path("fake"), [tmp_path / "a.tif"], Options(), Clock(), said.append):
        pass
    assert engine.batches == []
    assert said == ["running on 'fake-cpu' (a test)"]
