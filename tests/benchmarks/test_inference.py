"""What the benchmarks of batch inference work on, and what their check refuses."""

import numpy as np
import pytest
from peers import inference, inference_files, responses
from peers.table import WrongAnswer


@pytest.mark.usefixtures("ct_data")
def test_the_stack_to_infer_is_real_and_a_stand_in_says_so(monkeypatch, tmp_path):
    slices, source = inference_files._slices(8, 266)
    assert source == "CT of cement, fibres, nerve, polymer"
    assert (slices.shape, slices.dtype) == ((8, 266, 266), np.uint8)
    for material, image in zip(responses.MATERIALS, slices[::2], strict=True):
        real = responses.resampled_slices(material, 1)[0]
        assert np.abs(image - real.clip(0, 255)).max() <= 0.5
    assert inference_files.stack_of(2, 32).source == "stand-in for CT"
    monkeypatch.setattr(inference_files, "CT", tmp_path / "nothing")
    assert inference_files._slices(1, 266)[1] == "stand-in for CT"


def test_an_answer_without_an_array_or_with_another_slice_is_refused():
    whole = inference.OPERATIONS[0]
    work = whole.prepare(whole.sizes["smallest"])
    expected = inference_files.expected(*whole.sizes["smallest"])
    right = {"alpha_index": expected.peaks.argmax(1)}
    right |= {name: getattr(expected, name) for name in ("mean", "mean_gradient", "probabilities")}
    work.check({**right, "eigenfeatures": expected.eigenfeatures})
    with pytest.raises(WrongAnswer, match="eigenfeatures: missing"):
        work.check(right)
    with pytest.raises(WrongAnswer, match=r"eigenfeatures is .* off"):
        work.check({**right, "eigenfeatures": expected.eigenfeatures[::-1]})
