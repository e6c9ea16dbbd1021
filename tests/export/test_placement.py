"""Where the maps of a finished run lie in the slice, and that its overlay is drawn there."""

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


def test_the_overlay_of_a_run_is_drawn_where_its_maps_lie(finished_run, model, monkeypatch):
    folder = RunFolder.open(finished_run)
    with folder.open_samples() as samples:
        run = Finished(folder, samples, model)
        assert run.pixel == (2, 2)  # micrometres
        for placement, extent in ((run.placement, [0, 80, 80, 0]), (Placement(7, 2), [13, 93, 93, 13])):
            monkeypatch.setattr(Finished, "placement", placement)
            figure = run_figures(run, None)["overlay"][1]()
            panels = [axes for axes in figure.axes if len(axes.images) == 2]
            assert len(panels) == 4
            for panel in panels:
                assert panel.images[1].get_array().shape == (20, 20)
                assert panel.images[1].get_extent() == extent
