"""A model comes back as it was saved, and nothing else is taken for one."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.files import sha256
from eigenfeatures.eigen.model_file import DESCRIPTION_FILE, WEIGHTS_FILE, Model, load_model, save_model
from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.preprocessing import Preprocessing


@pytest.fixture
def model():
    network = build_network("small", 2, (40, 44), seed=3).eval()
    network.norm1.running_mean += 0.5
    return Model(
        network, ("left", "rechts ü"), Preprocessing("scharr", 4.5, 2.25), {"validation_accuracy": 0.75}
    )


def test_a_saved_model_answers_as_before(model, tmp_path):
    save_model(model, tmp_path)
    found = load_model(tmp_path)
    assert (found.classes, found.preprocessing, found.training) == (
        model.classes,
        model.preprocessing,
        model.training,
    )
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 1, 40, 44)).astype(np.float32))
    with torch.inference_mode():
        assert torch.equal(found.network(images), model.network(images))
    assert not found.network.training


def test_the_weights_may_be_read_by_whoever_may_read_the_rest(model, tmp_path):
    save_model(model, tmp_path)
    modes = {(tmp_path / name).stat().st_mode for name in (WEIGHTS_FILE, DESCRIPTION_FILE)}
    assert len(modes) == 1


def _edit(tmp_path, **changes):
    path = tmp_path / DESCRIPTION_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / WEIGHTS_FILE).unlink(), "is missing; train a model there first"),
        (lambda folder: (folder / DESCRIPTION_FILE).write_text("{"), "does not describe a model"),
        (lambda folder: (folder / DESCRIPTION_FILE).write_text("[1]"), "does not describe a model"),
        (
            lambda folder: (folder / WEIGHTS_FILE).write_bytes(b"\x00" * 64),
            "is damaged or belongs to another",
        ),
        (lambda folder: _edit(folder, format=99), "has format 99"),
        (lambda folder: _edit(folder, preset="../evil"), "preset '../evil' is unknown"),
        (lambda folder: _edit(folder, preset="reduced"), "does not hold the weights of 'reduced'"),
        (lambda folder: _edit(folder, size=[10**9, 10**9]), "does not hold the weights of 'small'"),
        (
            lambda folder: _edit(folder, preprocessing={"operator": "sobel", "code": "x"}),
            "does not describe a model",
        ),
    ],
)
def test_damaged_models_are_refused(model, tmp_path, damage, reason):
    save_model(model, tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=reason):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("conv1.weight", "float64"), ("conv1.bias", "float16"), ("norm1.num_batches_tracked", "float32")],
)
def test_weights_of_another_type_are_refused_by_name(model, tmp_path, name, kind):
    save_model(model, tmp_path)
    weights = tmp_path / WEIGHTS_FILE
    tensors = load_file(weights)
    save_file({**tensors, name: tensors[name].to(getattr(torch, kind))}, weights)
    _edit(tmp_path, weights_sha256=sha256(weights))
    with pytest.raises(
        InputError, match=rf"{WEIGHTS_FILE}: {name} is of {kind} in place of (float32|int64); "
    ):
        load_model(tmp_path)
