"""What can be asked of a graph, and what is refused before any work."""

import pytest

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.network import build_network
from eigenfeatures.export.outputs import (
    DEFAULT_OUTPUTS,
    checked_request,
    default_outputs,
    largest_rank,
    parse_outputs,
)

NETWORK = build_network("small", 3, (40, 34))


def asked(outputs=DEFAULT_OUTPUTS, layer="relu2", resolution="pooled", rank=1, any_size=False):
    return checked_request(NETWORK, outputs, layer, resolution, rank, any_size)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"outputs": ["probability"]},
            "output 'probability' is unknown; choose among probabilities, logits, .*relu5",
        ),
        ({"outputs": ["alpha_index"]}, "output 'alpha_index' is unknown"),
        ({"outputs": []}, "name at least one"),
        ({"outputs": ["gap", "gap"]}, "the outputs are 'gap,gap'; .* each once"),
        ({"layer": "relu9"}, "layer 'relu9' is not in the network"),
        ({"resolution": "fine"}, "resolution 'fine' is unknown"),
        ({"rank": 17}, "rank 17 is out of range: the maps of 'relu2' have 1 to 16 singular vectors"),
        ({"rank": 0}, "rank 0 is out of range"),
        ({"layer": "relu5", "rank": 5}, "the maps of 'relu5' have 1 to 4"),
        ({"any_size": True}, "'probabilities' needs slices of the size"),
        ({"outputs": ["gap", "logits"], "any_size": True}, "'logits' needs slices of the size"),
        ({"outputs": ["gap"], "any_size": True, "resolution": "dense"}, "a dense graph has one size"),
    ],
)
def test_what_can_not_be_had_is_refused(options, reason):
    with pytest.raises(InputError, match=reason) as caught:
        asked(**options)
    assert "\n" not in str(caught.value)


def test_alpha_stands_for_three_arrays():
    request = asked(("gap", "alpha", "relu1"))
    assert request.arrays == ("gap", "alpha_index", "alpha_maximum", "alpha_mean", "relu1")


@pytest.mark.parametrize(
    ("outputs", "resolution", "pooled", "maps"),
    [
        (("probabilities",), "pooled", {"logits"}, set()),
        (("eigenfeatures",), "pooled", {"relu2"}, {"relu2"}),
        (("logits", "gap", "conv1"), "dense", {"logits"}, {"relu2", "conv1"}),
        (("alpha", "residual"), "dense", {"relu2"}, {"relu2"}),
        (("alpha",), "pooled", {"relu2"}, set()),
    ],
)
def test_only_what_is_needed_is_computed(outputs, resolution, pooled, maps):
    request = asked(outputs, resolution=resolution)
    assert (request.pooled, request.maps) == (pooled, maps)


def test_a_rank_matters_only_where_there_is_a_decomposition():
    assert asked(["relu5"], layer="relu5", rank=8).rank == 8


def test_a_graph_for_any_size_leaves_the_classification_out_by_default():
    assert default_outputs(False) == DEFAULT_OUTPUTS
    assert default_outputs(True) == tuple(name for name in DEFAULT_OUTPUTS if name != "probabilities")
    assert asked(default_outputs(True), any_size=True).any_size


def test_largest_rank_is_that_of_the_maps():
    assert largest_rank(NETWORK, "relu2", "pooled") == 16
    assert largest_rank(NETWORK, "relu5", "pooled") == 2 * 2
    assert largest_rank(NETWORK, "relu5", "dense") == 16


def test_names_are_split_at_commas():
    assert parse_outputs("gap, relu2,alpha") == ("gap", "relu2", "alpha")
