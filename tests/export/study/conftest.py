"""One study with all plans, made once and read by many tests."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import studies
from commands import Answer

from eigenfeatures.eigen.samples import open_samples


@dataclass(frozen=True)
class FinishedStudy:
    """A study, what it was made from, and what the command said. Read it, don't change it."""

    samples: Path
    folder: Path
    properties: Path
    answer: Answer


@pytest.fixture
def no_figures(monkeypatch):
    """Figures are made but not drawn: most of the time of a study that has measured all."""
    monkeypatch.setattr("eigenfeatures.export.study.page.figure_png", lambda _: b"")


@pytest.fixture(scope="session")
def samples(tmp_path_factory):
    return studies.make_samples(tmp_path_factory.mktemp("phantom") / "samples")


@pytest.fixture(scope="module")
def opened(samples):
    with open_samples(samples) as found:
        yield found


@pytest.fixture(scope="session")
def finished(samples, tmp_path_factory):
    """Two networks with two seeds each, and all further plans."""
    root = tmp_path_factory.mktemp("study")
    properties = root / "known.csv"
    properties.write_text("sample,hardness [GPa],age [d]\nsample3,2.5,\nsample1,0.5,7\nsample2,1.5,9\n")
    answer = studies.study(samples, root / "study", *studies.EVERYTHING, "--properties", properties, "--json")
    assert answer.code == 0, answer.error
    return FinishedStudy(samples, root / "study", properties, answer)
