"""A measurement is kept in a file, and made anew where anything that it was made from has changed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.preprocessing import Preprocessing
from eigenfeatures.eigen.progress import silent
from eigenfeatures.eigen.study.chunks import StudiedNetwork
from eigenfeatures.eigen.study.maps import View
from eigenfeatures.eigen.study.measurement import all_pairs
from eigenfeatures.export.study.passes import Passes
from eigenfeatures.export.study.subjects import Subject
from eigenfeatures.export.talk import Talk

EVERY = 8
PAIRS = all_pairs(2)


class Loader:
    """Subjects that count how often their networks are loaded."""

    def __init__(self, classes, size):
        self.loads = 0
        self._shape = classes, size

    def subject(self, name, seed, key=None):
        def load(layer):
            self.loads += 1
            network = build_network("small", *self._shape, seed).eval().up_to(layer)
            return StudiedNetwork("whatever", network, Preprocessing("sobel"))

        return Subject(name, seed, key or f"weights {seed}", load)

    def two(self):
        return [self.subject("a", 0), self.subject("b", 1)]


@pytest.fixture
def passes(opened, tmp_path):
    return Passes(
        samples=opened,
        inputs={"sample1.tif": "f" * 64},
        folder=tmp_path / "measured",
        view=View("relu1", rank=2),
        operator="sobel",
        device=torch.device("cpu"),
        talk=Talk(silent, lambda _: None),
    )


@pytest.fixture
def loader(opened):
    return Loader(len(opened.classes), opened.size)


def files(passes):
    return sorted(path.name for path in passes.folder.iterdir())


def test_what_was_measured_is_not_measured_again(passes, loader):
    first = passes.compare("core", loader.two(), PAIRS, every=EVERY)
    (name,) = files(passes)
    assert name.startswith("core-")
    assert name.endswith(".npz")
    assert loader.loads == 2
    again = passes.compare("core", loader.two(), PAIRS, every=EVERY)
    assert loader.loads == 2
    assert again.runs == first.runs == ("a", "b")
    for found, expected in ((again.of_pairs, first.of_pairs), (again.of_runs, first.of_runs)):
        assert found.keys() == expected.keys()
        for measure, values in expected.items():
            np.testing.assert_array_equal(found[measure], values)
    np.testing.assert_array_equal(again.slices, first.slices)
    np.testing.assert_array_equal(again.pairs, PAIRS)


def test_what_is_kept_is_read_from_the_file(passes, loader):
    """A number that was changed in the file shows: it's the file that is used."""
    measured = passes.compare("core", loader.two(), PAIRS, every=EVERY)
    (path,) = passes.folder.iterdir()
    arrays = measured.arrays()
    arrays["of_pairs/u1/pearson"] = np.full_like(arrays["of_pairs/u1/pearson"], 7.0)
    np.savez(path, **arrays)
    assert np.all(passes.compare("core", loader.two(), PAIRS, every=EVERY).of_pairs["u1/pearson"] == 7)


CHANGES = {
    "weights": lambda loader, passes: passes.compare(
        "core", [loader.subject("a", 0, "others"), loader.subject("b", 1)], PAIRS, every=EVERY
    ),
    "names": lambda loader, passes: passes.compare(
        "core", [loader.subject("a", 0), loader.subject("c", 1)], PAIRS, every=EVERY
    ),
    "pairs": lambda loader, passes: passes.compare("core", loader.two(), PAIRS[:0], every=EVERY),
    "slices": lambda loader, passes: passes.compare("core", loader.two(), PAIRS, every=EVERY + 1),
    "layer": lambda loader, passes: passes.compare("core", loader.two(), PAIRS, every=EVERY, layer="conv1"),
    "rank": lambda loader, passes: passes.compare("core", loader.two(), PAIRS, every=EVERY, rank=1),
    "centring": lambda loader, passes: passes.compare("core", loader.two(), PAIRS, every=EVERY, center=True),
    "inputs": lambda loader, passes: replace(passes, inputs={"sample1.tif": "0" * 64}).compare(
        "core", loader.two(), PAIRS, every=EVERY
    ),
    "operator": lambda loader, passes: replace(passes, operator="scharr").compare(
        "core", loader.two(), PAIRS, every=EVERY
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_has_changed_is_measured_anew_in_place_of_the_old(what, passes, loader):
    passes.compare("core", loader.two(), PAIRS, every=EVERY)
    before = files(passes)
    CHANGES[what](loader, passes)
    assert loader.loads == 4
    after = files(passes)
    assert len(after) == 1
    assert after != before


def test_passes_of_different_names_do_not_replace_each_other(passes, loader):
    names = ["core", "core-2", "small relu2", "small relu2, dense"]
    for name in names:
        passes.compare(name, loader.two(), PAIRS, every=EVERY)
    assert len(files(passes)) == len(names)
    assert loader.loads == 2 * len(names)
    for name in names:
        passes.compare(name, loader.two(), PAIRS, every=EVERY)
    assert loader.loads == 2 * len(names)


def test_networks_answer_to_the_names_of_their_subjects(passes, loader):
    """As of an untrained network, which is loaded under the name of its run."""
    measured = passes.compare(
        "core", [loader.subject("run", 0), loader.subject("run untrained", 0)], PAIRS, every=EVERY
    )
    assert measured.runs == ("run", "run untrained")
    np.testing.assert_allclose(measured.of_pairs["u1/pearson"], 1, rtol=1e-6)


def test_descriptors_are_kept_too(passes, loader):
    first = passes.describe("descriptors", loader.two())
    again = passes.describe("descriptors", loader.two())
    assert loader.loads == 2
    assert {"raw", "gradient", "a/u1", "b/alpha", "a/u1/strength"} <= first.keys() == again.keys()
    for name, values in first.items():
        assert len(values) == len(passes.samples)
        np.testing.assert_array_equal(again[name], values)
    passes.describe("descriptors", [loader.subject("a", 0, "others"), loader.subject("b", 1)])
    assert loader.loads == 4
    assert len(files(passes)) == 1


@pytest.mark.parametrize("broken", [b"", b"no archive at all", b"PK\x03\x04" + bytes(60)])
def test_a_broken_file_is_named(broken, passes, loader):
    passes.compare("core", loader.two(), PAIRS, every=EVERY)
    (path,) = passes.folder.iterdir()
    path.write_bytes(broken)
    with pytest.raises(InputError, match=r"core-.*\.npz holds no measurements of a study; delete it"):
        passes.compare("core", loader.two(), PAIRS, every=EVERY)
