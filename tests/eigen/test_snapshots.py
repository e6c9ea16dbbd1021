"""Snapshots hold the first layers of a network as they are, and nothing else is taken for one."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.responses import responses
from eigenfeatures.eigen.snapshots import load_snapshot, save_snapshot, snapshot_iterations, snapshot_path

SIZE = (66, 70)


def trained(preset="small", seed=3):
    """A network whose batch normalisation has seen images."""
    network = build_network(preset, 3, SIZE, seed)
    with torch.no_grad():
        network.train()(torch.rand(4, 1, *SIZE, generator=torch.Generator().manual_seed(seed)))
    return network.eval()


def load(folder, iteration, layer="relu2", preset="small"):
    return load_snapshot(folder, layer, iteration, preset, 3, SIZE)


@pytest.mark.parametrize("preset", ["small", "alexnet"])
def test_responses_come_back_with_all_bits(tmp_path, preset):
    network = trained(preset)
    save_snapshot(tmp_path, "relu2", 5, network)
    found = load(tmp_path, 5, preset=preset)
    assert (found.preset, found.classes, found.size) == (preset, 3, SIZE)
    assert found.response_layers == ("conv1", "relu1", "conv2", "relu2")
    assert not any(module.training for module in found.modules())
    assert not any(tensor.is_meta for tensor in found.state_dict().values())
    images = torch.randn(2, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for name, maps in responses(network, images, found.response_layers).items():
            assert torch.equal(responses(found, images, [name])[name], maps)


def test_the_file_has_the_first_layers_only(tmp_path):
    network = trained()
    save_snapshot(tmp_path, "conv2", 0, network)
    tensors = load_file(snapshot_path(tmp_path, 0))
    assert {name.partition(".")[0] for name in tensors} == {"conv1", "norm1", "conv2"}
    for name, tensor in tensors.items():
        assert torch.equal(tensor, network.state_dict()[name])


def test_saving_leaves_the_network_in_training(tmp_path):
    network = trained().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    save_snapshot(tmp_path, "relu2", 5, network)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_later_changes_of_the_network_do_not_reach_a_loaded_one(tmp_path):
    network = trained()
    save_snapshot(tmp_path, "relu2", 5, network)
    found = load(tmp_path, 5)
    with torch.no_grad():
        network.get_submodule("conv1").weight.zero_()
    assert found.get_submodule("conv1").weight.abs().max() > 0


def test_iterations_are_numbers_in_order_and_other_files_none(tmp_path):
    assert snapshot_iterations(tmp_path / "absent") == []
    network = trained()
    for iteration in (100, 0, 5, 12345, 20):
        save_snapshot(tmp_path, "relu1", iteration, network)
    assert snapshot_path(tmp_path, 5).name == "0005.safetensors"
    # A copy by hand, a temporary file of a killed training, another kind of file.
    for name in ("0005 (copy).safetensors", ".0005.1a2b.safetensors", "0007.npz", "5a.safetensors"):
        (tmp_path / name).touch()
    assert snapshot_iterations(tmp_path) == [0, 5, 20, 100, 12345]


def refused(folder, iteration=5, **options):
    with pytest.raises(InputError) as caught:
        load(folder, iteration, **options)
    layer, preset = options.get("layer", "relu2"), options.get("preset", "small")
    path = snapshot_path(folder, iteration)
    assert str(caught.value) == f"{path} does not hold the layers up to {layer} of '{preset}'"


def test_other_files_are_refused(tmp_path):
    refused(tmp_path)  # missing
    save_snapshot(tmp_path, "relu2", 5, trained())
    refused(tmp_path, layer="relu1")
    refused(tmp_path, layer="relu3")
    refused(tmp_path, preset="reduced")
    refused(tmp_path, preset="alexnet")
    path = snapshot_path(tmp_path, 5)
    whole = path.read_bytes()
    for content in (b"", b"no tensors at all", whole[:100], whole[:-1]):
        path.write_bytes(content)
        refused(tmp_path)
    save_file({"conv1.weight": torch.zeros(16, 1, 3, 3)}, path)
    refused(tmp_path)


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    snapshot_path(tmp_path, 5).write_bytes(pickle.dumps(Trap()))
    refused(tmp_path)
    torch.save({"conv1.weight": Trap()}, snapshot_path(tmp_path, 5))
    refused(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_unknown_layers_are_refused(tmp_path):
    with pytest.raises(InputError, match="layer 'relu9' is not in the network 'small'"):
        save_snapshot(tmp_path, "relu9", 5, trained())
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="layer 'relu9' is not in the network 'small'"):
        load(tmp_path, 5, layer="relu9")
