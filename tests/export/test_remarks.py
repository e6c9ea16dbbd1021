"""What is remarked on a run's accuracy follows from its metrics."""

from eigenfeatures.export.remarks import remarks


def test_samples_whose_validation_slices_are_like_training_slices_are_named():
    metrics = {"likeness": {"a": 0.716, "b": 0.2, "c": None}}
    assert remarks(metrics) == [
        "sample 'a': validation slices correlate by 0.72 with the most alike training slice of their stack, "
        "so accuracy may rest on likeness"
    ]


def test_metrics_of_an_earlier_version_have_no_likeness():
    assert remarks({}) == []
