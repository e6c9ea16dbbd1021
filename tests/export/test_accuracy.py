"""When a model of less precision is near enough to the one it was made from."""

import numpy as np
import pytest

from eigenfeatures.export.accuracy import Accuracy, compare

SLICES = np.zeros((200, 2, 2), np.uint8)


def compared(expected, found):
    return compare(lambda _: expected, lambda _: found, [SLICES])


def classes(wrong):
    """Probabilities of two classes, the second one in so many of 200 slices."""
    second = np.arange(len(SLICES)) < wrong
    return {"probabilities": np.stack([~second, second], 1).astype(np.float32)}


def turned(cosine, gap=0.5, name="eigenfeatures"):
    """One image a slice, of two pixels, at this cosine to the first axis; a fifth of them is not turned."""
    cosines = np.where(np.arange(len(SLICES)) % 5 == 0, 1, cosine)
    images = np.stack([cosines, np.sqrt(1 - cosines**2)], 1)[:, None, None]
    return {name: images, "gap": np.full(len(SLICES), gap)}


@pytest.mark.parametrize(("wrong", "missed"), [(0, False), (1, False), (2, True)])
def test_classes_are_to_agree_in_995_of_1000_slices(wrong, missed):
    found = compared(classes(0), classes(wrong))
    assert found.measures["class_agreement"] == 1 - wrong / 200
    assert (f"class_agreement {1 - wrong / 200:.5f} (0.995 is asked)" in found.missed) == missed
    assert bool(found.missed) == missed


@pytest.mark.parametrize("name", ["eigenfeatures", "relu2"])
@pytest.mark.parametrize(("cosine", "missed"), [(0.9988, False), (0.9987, True)])
def test_the_mean_cosine_is_to_be_0999(name, cosine, missed):
    """A fifth of the slices has 1, so that the mean is 0.99904 and 0.99896."""
    found = compared(turned(1, name=name), turned(cosine, name=name))
    measure = "u1_cosine_mean" if name == "eigenfeatures" else "relu2_cosine_mean"
    assert found.measures[measure] == pytest.approx(0.2 + 0.8 * cosine, abs=1e-9)
    assert found.missed == (f"{measure} {0.2 + 0.8 * cosine:.5f} (0.999 is asked)" if missed else "")


@pytest.mark.parametrize(
    ("measure", "least"),
    [("class_agreement", 0.995), ("u1_cosine_mean", 0.999), ("conv1_cosine_mean", 0.999)],
)
def test_what_is_asked_is_just_enough(measure, least):
    for value, missed in ((least, False), (least - 1e-4, True), (0.0, True), (float("nan"), True)):
        assert bool(Accuracy(9, 0, {measure: value}).missed) == missed, value


@pytest.mark.parametrize("measure", ["alpha_agreement", "u1_cosine_minimum", "largest_difference_of_sigma1"])
def test_other_measures_are_only_told(measure):
    assert Accuracy(9, 0, {measure: 0.1}).missed == ""


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_has_difference_1_whatever_the_scale(value, scale):
    expected = np.full((len(SLICES), 2), scale, np.float32)
    for broken in (slice(None), slice(7, 8)):
        found = expected.copy()
        found[broken] = value
        for first, second in ((expected, found), (found, expected)):
            told = compared({"singular_values": first}, {"singular_values": second})
            assert told.measures == {"largest_difference_of_sigma1": 1}


def test_vectors_of_which_none_can_be_compared_are_not_passed_in_silence():
    """They may be any mixture, so that nothing is known of the file."""
    found = compared(turned(1, gap=0.991), turned(0.1, gap=0.991))
    assert (found.slices, found.undetermined, found.vectors) == (200, 200, 0)
    assert found.missed == (
        "no eigenfeature could be compared, since the first one is ill-determined in every slice "
        "(σ₂/σ₁ above 0.99)"
    )
    assert found.short == ""
    gaps = np.where(np.arange(len(SLICES)) == 0, 0.989, 0.991)
    one = compared(turned(1, gap=gaps), turned(0.1, gap=gaps))
    assert (one.vectors, one.missed) == (1, ""), "the one that is determined is not turned"
    assert compared(classes(0), classes(0)).vectors is None
