"""Receptive fields, by hand and by trial."""

import pytest
import torch

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.receptive_field import ReceptiveField, receptive_field
from eigenfeatures.eigen.responses import responses, stride_of

SIZE = (150, 170)


@pytest.mark.parametrize(
    ("preset", "layer", "expected"),
    [
        ("small", "conv1", (1, 1, 1)),
        ("small", "relu2", (2, 5, 6)),
        ("small", "relu3", (4, 17, 20)),
        ("alexnet", "conv1", (4, 2, 8)),
        # conv1: 11 pixels; pool1 adds 2 * 4 behind; conv2 adds 2 * 8 on both sides.
        ("alexnet", "relu2", (8, 18, 32)),
    ],
)
def test_receptive_fields(preset, layer, expected):
    network = build_network(preset, 2, SIZE)
    assert receptive_field(network, layer) == ReceptiveField(*expected)
    assert stride_of(network, layer) == expected[0]


@torch.inference_mode()
def test_a_pixel_is_made_of_its_field_and_of_nothing_else():
    network, (row, column) = build_network("small", 2, SIZE, seed=2).eval(), (8, 9)
    field = receptive_field(network, "conv3")

    def value(image):
        return responses(network, image[None, None], ["conv3"])["conv3"][0, :, row, column]

    blank = torch.zeros(SIZE)
    first, last = row * field.stride - field.before, row * field.stride + field.after
    changed = []
    for place in (first - 1, first, last, last + 1):
        spot = blank.clone()
        spot[place] = 100
        changed.append(not torch.equal(value(spot), value(blank)))
    assert changed == [False, True, True, False]


def test_an_unknown_layer_is_refused():
    with pytest.raises(InputError, match="layer 'relu9' is not in the network"):
        receptive_field(build_network("small", 2, SIZE), "relu9")
