"""Precision, recall and the confusion matrix, against scikit-learn's definitions worked by hand."""

import numpy as np

from eigenfeatures.export.metrics import classification_metrics, unrecognised


def test_metrics_of_a_worked_example():
    label = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 0, 1, 1, 1, 1])
    found = classification_metrics(label, predicted, ("a", "b", "c"))
    assert found["accuracy"] == 4 / 6
    assert found["confusion"] == [[2, 1, 0], [0, 2, 0], [0, 1, 0]]
    assert found["per_class"]["a"] == {"precision": 1.0, "recall": 2 / 3, "slices": 3}
    assert found["per_class"]["b"] == {"precision": 0.5, "recall": 1.0, "slices": 2}
    # Nothing was taken for c, so that it has no precision.
    assert found["per_class"]["c"] == {"precision": None, "recall": 0.0, "slices": 1}
    assert unrecognised(found) == ["c"]


def test_no_slices_have_no_accuracy():
    found = classification_metrics(np.array([], int), np.array([], int), ("a", "b"))
    assert (found["slices"], found["accuracy"]) == (0, None)
    assert unrecognised(found) == []


def test_half_of_the_slices_recognised_is_enough():
    found = classification_metrics(np.array([0, 0, 1]), np.array([0, 1, 1]), ("a", "b"))
    assert unrecognised(found) == []
