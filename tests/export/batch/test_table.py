"""Rows of the table say what the arrays hold, and flags say what not to trust."""

import csv

import numpy as np
import pytest

from eigenfeatures.export.batch.table import columns, flags, is_volume, statistics_columns, write_blocks
from eigenfeatures.kernels import slice_statistics

CLASSES = ("a", "b")
ILL, BAD = "ill-determined", "invalid"


def block(**changes):
    slices = np.random.default_rng(0).integers(0, 255, (3, 8, 9)).astype(np.uint8)
    arrays = {
        "slice": np.array([4, 6, 8]),
        "filled": np.zeros(3, bool),
        **statistics_columns(slice_statistics(slices)),
        "probabilities": np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], np.float32),
        "singular_values": np.array([[3.0, 1.0], [2.0, 1.9], [5.0, 0.0]]),
        "gap": np.array([1 / 3, 0.95, 0.0]),
        "residual": np.array([1e-7, 1e-7, 1e-7]),
    }
    return {**arrays, **{name: np.array(value) for name, value in changes.items()}}


def test_every_number_is_in_its_column(tmp_path):
    arrays = block()
    write_blocks(tmp_path / "t.csv", [columns("one", arrays, CLASSES), columns("two", arrays, CLASSES)])
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["stack"] for row in rows] == ["one"] * 3 + ["two"] * 3
    assert [int(row["slice"]) for row in rows] == [4, 6, 8] * 2
    assert [row["predicted"] for row in rows[:3]] == ["a", "b", "a"]
    shown = {"probability_b": arrays["probabilities"][:, 1], "sigma2": arrays["singular_values"][:, 1]}
    shown |= {name: arrays[name] for name in ("mean", "deviation", "mean_gradient", "gap", "residual")}
    for name, values in shown.items():
        np.testing.assert_allclose([float(row[name]) for row in rows[:3]], values, rtol=1e-8)
    np.testing.assert_allclose([float(row["probability"]) for row in rows[:3]], [0.9, 0.8, 0.5], rtol=1e-6)


def test_columns_without_arrays_are_left_out():
    arrays = {name: array for name, array in block().items() if name not in ("probabilities", "gap")}
    names = list(columns("one", arrays, CLASSES))
    assert "predicted" not in names
    assert "gap" not in names
    assert names[-1] == "flag"
    arrays["logits"] = np.array([[0.0, 1.0], [3.0, 2.0], [0.0, 1.0]])
    found = columns("one", arrays, CLASSES)
    assert found["predicted"] == ["b", "a", "b"]
    assert found["logit_a"] == [0, 3, 0]


@pytest.mark.parametrize("name", ["probabilities", "logits"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_without_a_finite_score_no_class_is_predicted(name, bad):
    arrays = block()
    scores = arrays.pop("probabilities")
    scores[1, 0], scores[2] = bad, bad
    assert columns("one", {**arrays, name: scores}, CLASSES)["predicted"] == ["a", "", ""]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["", "", ""]),
        ({"deviation": [1.0, 0, 1]}, ["", "constant", ""]),
        ({"mean_gradient": [0, 1e-20, 1e-18], "deviation": [0, 1e-20, 1e-18]}, ["constant", "faint", ""]),
        ({"singular_values": [[1.0], [1], [0]], "gap": [0.5, 0.995, 0]}, ["", "ill-determined", "zero"]),
        ({"gap": [0.99, 0.9901, 0]}, ["", "ill-determined", ""]),
        ({"gap": [0.0, 0, 0], "residual": [1e-4, 1.1e-4, 0]}, ["", "uncertain", ""]),
        ({"gap": [0.9, 0.9, 0.9], "residual": [1.8e-5, 2e-5, 1e-4]}, ["", "uncertain", "uncertain"]),
        ({"gap": [0.985] * 3, "residual": [2.9e-6, 3.1e-6, 9e-5]}, ["", "uncertain", "uncertain"]),
        ({"gap": [0.9999] * 3, "residual": [0, 1.9e-6, 2.1e-6]}, [ILL, ILL, f"{ILL};uncertain"]),
        ({"gap": [np.nan] * 3, "residual": [9e-5, 1.1e-4, np.nan]}, [BAD, f"uncertain;{BAD}", BAD]),
        ({"gap": [0.995, 0.1, 0.1], "residual": [1e-3, 0, 0]}, ["ill-determined;uncertain", "", ""]),
        ({"singular_values": [[1.0], [np.nan], [1]]}, ["", "invalid", ""]),
        ({"deviation": [1.0, 0, 1], "filled": [False, True, True]}, ["", "constant;filled", "filled"]),
        ({"probabilities": [[1.0, 0], [0.5, 0.5], [np.inf, 0]]}, ["", "", "invalid"]),
    ],
)
def test_flags(changes, expected):
    assert flags(block(**changes)) == expected


def test_without_a_gap_the_residual_itself_decides():
    arrays = block(residual=[1e-4, 1.1e-4, 3e-5])
    del arrays["gap"]
    assert flags(arrays) == ["", "uncertain", ""]


@pytest.mark.parametrize("gap", [0.9, 0.985])
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("turned", [0, 5e-5, 2e-4])
def test_an_eigenfeature_is_uncertain_where_its_angle_is(gap, rank, turned):
    """Vectors that are turned in the plane of the first two, the more so the nearer both values are.

    `turned` is the sine of the angle; the residual is measured, as an engine measures it.
    """
    rng = np.random.default_rng(2)
    left, right = (np.linalg.qr(rng.standard_normal((n, 3)))[0] for n in (400, 16))
    x = left * [1.0, gap, 0.3] @ right.T
    v = np.sqrt(1 - turned**2) * right[:, :2] + turned * np.stack([right[:, 1], -right[:, 0]], 1)
    s = np.linalg.norm(x @ v, axis=0)
    u = x @ v / s
    residual = np.linalg.norm(x.T @ u - s * v, axis=0)[:rank].max() / s[0]
    assert np.linalg.norm(u[:, 0] - left[:, 0] * (left[:, 0] @ u[:, 0])) <= max(1.1 * turned, 1e-12)
    arrays = block(gap=[gap, 0, 0], residual=[residual, 0, 0])
    assert flags(arrays) == ["uncertain" if turned > 1e-4 else "", "", ""]


def test_maps_are_told_from_numbers():
    assert [is_volume(np.zeros((2, 3)[:1] + (1,) * extra)) for extra in range(4)] == [
        False,
        False,
        False,
        True,
    ]
