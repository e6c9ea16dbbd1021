"""Where the maps of a finished run lie in the slice, and that its pictures are drawn there."""

from types import SimpleNamespace

import pytest

from eigenfeatures.eigen.figures import Placement
from eigenfeatures.eigen.network import build_network
from eigenfeatures.export.finished import Finished
from eigenfeatures.export.run_figures import run_figures
from eigenfeatures.export.run_folder import RunFolder


@pytest.mark.parametrize(
    ("preset", "layer", "resolution", "expected"),
    [
        ("small", "relu2", "pooled", (0.5, 2)),
        ("small", "relu2", "dense", (0.5, 1)),
        ("small", "conv1", "pooled", (0, 1)),
        ("alexnet", "relu2", "pooled", (7, 8)),
        ("alexnet", "relu2", "dense", (7, 1)),
    ],
)
def test_pixels_lie_at_the_centres_of_their_receptive_fields(preset, layer, resolution, expected):
    model = SimpleNamespace(network=build_network(preset, 2, (128, 130)))
    folder = SimpleNamespace(settings=SimpleNamespace(layer=layer, resolution=resolution))
    assert Finished(folder, None, model).placement == Placement(*expected)


@pytest.mark.parametrize("name", ["overlay", "eigenfeatures", "strongest_channels"])
def test_pictures_of_a_run_are_drawn_where_its_maps_lie(name, finished_run, model, monkeypatch):
    folder = RunFolder.open(finished_run)
    with folder.open_samples() as samples:
        run = Finished(folder, samples, model)
        assert run.pixel == (2, 2)  # micrometres
        for placement, extent in ((run.placement, [0, 80, 80, 0]), (Placement(7, 2), [13, 93, 93, 13])):
            monkeypatch.setattr(Finished, "placement", placement)
            figure = run_figures(run, None)[name][1]()
            maps = [
                image for axes in figure.axes for image in axes.images if image.get_array().shape == (20, 20)
            ]
            assert [image.get_extent() for image in maps] == [extent] * 4


def test_the_channels_of_each_layer_are_drawn_where_that_layers_maps_lie(finished_run, model, monkeypatch):
    places = {"conv1": Placement(0.0, 1.0), "conv2": Placement(7.0, 2.0), "relu2": Placement(3.0, 2.0)}
    with (folder := RunFolder.open(finished_run)).open_samples() as samples:
        run = Finished(folder, samples, model)
        assert {layer: run.placement_at(layer, "pooled") for layer in ("conv1", "relu2")} == {
            "conv1": Placement(0.0, 1.0),
            "relu2": Placement(0.5, 2.0),
        }
        monkeypatch.setattr(Finished, "placement_at", lambda _, layer, __: places[layer])
        figure = run_figures(run, None)["gradient_and_channels"][1]()
    extents = {axes.get_title(): axes.images[0].get_extent() for axes in figure.axes if axes.get_title()}
    assert extents["|∇Y|"] == extents["α channel at conv1"] == [0, 80, 80, 0]
    assert extents["α channel at conv2"] == [13, 93, 93, 13]
    assert extents["α channel at relu2"] == [5, 85, 85, 5]
