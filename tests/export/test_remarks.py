"""What is remarked on a run's accuracy follows from its metrics."""

import pytest

from eigenfeatures.export.remarks import remarks


def found(recalls, slices=(50, 50), training=0.6, **more):
    """Metrics of samples a, b …, each with its recall and number of validation slices."""
    per_class = {
        name: {"recall": recall, "slices": number}
        for name, recall, number in zip("abc", recalls, slices, strict=False)
    }
    right = sum(values["recall"] * values["slices"] for values in per_class.values())
    validation = {"accuracy": right / sum(slices), "slices": sum(slices), "per_class": per_class}
    return {"validation": validation, "train": {"accuracy": training}, **more}


def test_samples_whose_validation_slices_are_like_training_slices_are_named():
    assert remarks(found((1, 1, 1), (9, 9, 9), likeness={"a": 0.716, "b": 0.2, "c": None})) == [
        "sample 'a': validation slices correlate by 0.72 with the most alike training slice of their stack, "
        "so accuracy may rest on likeness"
    ]


def test_metrics_of_an_earlier_version_have_no_likeness():
    assert remarks(found((1, 1))) == []


@pytest.mark.parametrize(("recalls", "told"), [((1, 0), True), ((0.5, 1), True), ((1, 0.1), False)])
def test_an_accuracy_that_is_not_above_chance_is_told(recalls, told):
    """Of 40 validation slices the larger sample has 30."""
    notes = [note for note in remarks(found(recalls, (30, 10))) if "the largest sample" in note]
    assert len(notes) == told
    if told:
        right = (recalls[0] * 30 + recalls[1] * 10) / 40
        assert notes[0].startswith(f"the validation accuracy of {right:.1%} is not above the 75.0% that")


@pytest.mark.parametrize(("training", "advised"), [(0.97, True), (0.98, False), (1, False)])
def test_more_iterations_are_advised_only_where_training_slices_are_left_to_learn(training, advised):
    (note,) = remarks(found((1, 0.4), training=training))
    assert note.startswith("of b less than half of the validation slices are recognised")
    assert note.endswith("; more iterations may help") == advised
