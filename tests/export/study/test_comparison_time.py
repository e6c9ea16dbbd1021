"""What is counted before a study starts is what it measures after."""

from collections import Counter

import pytest
import studies

from eigenfeatures.eigen.samples import open_samples
from eigenfeatures.eigen.study.stored import load_arrays
from eigenfeatures.export.study import comparison_time
from eigenfeatures.export.study.comparison_time import comparison_minutes
from eigenfeatures.export.study.plan import make_plan

PLAN = make_plan(studies.BASE, studies.PRESETS, studies.SEEDS, studies.ALSO, "small", studies.SEEDS)
ALL = studies.SLICES * len(studies.LENGTHS)


def counted(samples, monkeypatch, look, pair):
    """Minutes by plan where each look at a slice and each comparison take so many seconds."""
    monkeypatch.setattr(comparison_time, "_seconds", lambda *_: (look, pair))
    with open_samples(samples) as opened:
        return comparison_minutes(opened, studies.BASE, PLAN)


def measured(study, which):
    """Looks or comparisons in the files of a finished study, by the first word of their names."""
    found = Counter()
    for path in (study / "measured").glob("*.npz"):
        arrays = load_arrays(path)
        if which in arrays:
            found[path.name.partition("-")[0]] += len(arrays[which]) * len(arrays["slices"])
    return found


def test_every_look_is_counted(finished, monkeypatch):
    minutes = counted(finished.samples, monkeypatch, 60.0, 0.0)
    looks = measured(finished.folder, "runs")
    assert minutes["operators"] == pytest.approx(looks["operators"])
    assert minutes["claims"] == pytest.approx(looks["claims"])
    # Those of another kind: descriptors of the four networks, trained and untrained. Not counted: those by
    # which samples are ranked, a few slices of another layer.
    described, ranked = 2 * 4 * ALL, looks.pop("activation")
    assert 0 < ranked < 0.02 * looks.total()
    assert sum(minutes.values()) == pytest.approx(looks.total() + described)


def test_every_comparison_is_counted(finished, monkeypatch):
    minutes = counted(finished.samples, monkeypatch, 0.0, 60.0)
    pairs = measured(finished.folder, "pairs")
    for plan in ("operators", "claims"):
        assert minutes[plan] == pytest.approx(pairs[plan])
    assert sum(minutes.values()) == pytest.approx(pairs.total())
