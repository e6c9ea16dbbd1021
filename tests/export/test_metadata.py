"""What a file says of itself, and files that are refused."""

import hashlib
import json
import shutil
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from commands import assert_refused, call

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.model_file import load_model
from eigenfeatures.export import metadata
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.ort_engine import OrtEngine
from eigenfeatures.export.metadata import model_info, read_metadata, save_graph, weights_sha256
from eigenfeatures.export.outputs import DEFAULT_OUTPUTS


@pytest.fixture(scope="module")
def exported(finished_run):
    return onnx.load_model(finished_run / "model.onnx")


def opened(path):
    return OrtEngine(path, ["probabilities"], "cpu", Clock())


def saved(proto, path):
    save_graph(copy_of(proto), path)
    return path


def copy_of(proto):
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    return copied


def with_property(proto, name, text):
    changed = copy_of(proto)
    kept = {p.key: p.value for p in proto.metadata_props} | {f"eigenfeatures.{name}": text}
    onnx.helper.set_model_props(changed, {key: value for key, value in kept.items() if value is not None})
    return changed


def test_metadata_say_what_was_exported(finished_run):
    found = read_metadata(finished_run / "model.onnx")
    assert found["classes"] == ["sample1", "sample2", "sample3", "sample4"]
    assert (found["preset"], found["size"], found["dtype"]) == ("small", [40, 40], "uint8")
    assert (found["operator"], found["normalise"], found["mean"], found["deviation"]) == (
        "sobel",
        "slice",
        None,
        None,
    )
    assert (found["layer"], found["resolution"], found["rank"], found["any_size"]) == (
        "relu2",
        "pooled",
        2,
        False,
    )
    assert tuple(found["outputs"]) == DEFAULT_OUTPUTS
    assert (found["strides"], found["offsets"]) == ({"relu2": 2}, {"relu2": 0.5})
    assert found["crop"] == {"size": None, "roi": []}
    assert found["training"] == load_model(finished_run).training
    assert {"torch", "onnx", "onnxruntime", "eigenfeatures"} <= found["versions"].keys()
    weights = (finished_run / "model.safetensors").read_bytes()
    assert found["weights_sha256"] == hashlib.sha256(weights).hexdigest()


def test_the_hash_is_of_the_weights(finished_run):
    model = load_model(finished_run)
    before = weights_sha256(model)
    with torch.no_grad():
        model.network.conv1.bias[0] += 1e-6
    assert weights_sha256(model) != before


def test_model_info_adds_the_arrays_with_their_shapes(finished_run):
    found = model_info(finished_run / "model.onnx")
    assert found["opset"] == 20
    assert found["input"] == {"slices": "uint8 (batch, 40, 40)"}
    assert found["arrays"] == {
        "probabilities": "float32 (batch, 4)",
        "alpha_index": "int64 (batch)",
        "alpha_maximum": "float32 (batch)",
        "alpha_mean": "float32 (batch)",
        "eigenfeatures": "float32 (batch, 2, 20, 20)",
        "singular_values": "float32 (batch, 2)",
        "gap": "float32 (batch)",
        "residual": "float32 (batch)",
    }
    assert found.items() >= read_metadata(finished_run / "model.onnx").items()


def test_json_in_metadata_is_plain(exported):
    values = {p.key: json.loads(p.value) for p in exported.metadata_props}
    assert len(values) > 10
    assert all(key.startswith("eigenfeatures.") for key in values)


def test_files_that_are_not_ours_are_refused(tmp_path):
    with pytest.raises(InputError, match="is missing; export a model first"):
        opened(tmp_path / "absent.onnx")
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"\x08garbage" * 9)
    with pytest.raises(InputError, match="is not an ONNX file"):
        opened(garbage)
    identity = onnx.helper.make_node("Identity", ["x"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    foreign = onnx.helper.make_model(onnx.helper.make_graph([identity], "g", values[:1], values[1:]))
    with pytest.raises(InputError, match="was not exported by eigenfeatures"):
        opened(saved(foreign, tmp_path / "foreign.onnx"))


@pytest.mark.parametrize("command", ["infer", "model-info"])
def test_what_is_too_large_for_a_model_is_not_read(command, stacks, tmp_path, monkeypatch):
    """As a raw volume in the place of MODEL."""
    raw = tmp_path / "scan.raw"
    with raw.open("wb") as file:
        file.truncate(2**31)
    monkeypatch.setattr(metadata.Path, "read_bytes", lambda _: pytest.fail("the file was read"))
    further = (stacks, "--out", tmp_path / "out", "--device", "cpu") if command == "infer" else ()
    reason = r"scan\.raw has 2\.0 GiB, and an ONNX .* less than 2 GiB; give MODEL first, then the stacks"
    assert_refused(call(command, raw, *further), reason)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("outputs", None, "does not say its outputs: another version made it"),
        ("size", '"large"', "does not say its size"),
        ("training", "{", "has metadata that can't be read"),
        ("crop", "[" * 100000, "has metadata that can't be read"),
    ],
)
def test_metadata_that_others_changed_are_refused(exported, tmp_path, name, text, reason):
    path = saved(with_property(exported, name, text), tmp_path / "model.onnx")
    with pytest.raises(InputError, match=reason):
        opened(path)


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99])
def test_truncated_model_is_refused(finished_run, tmp_path, kept):
    whole = (finished_run / "model.onnx").read_bytes()
    path = tmp_path / "model.onnx"
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(InputError, match=r"model\.onnx"):
        opened(path)


def flipped(content, bit):
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_bit_that_flips_anywhere_is_refused(finished_run, tmp_path):
    """Nearly all of them leave a file that ONNX reads, and most one that runs and gives other numbers."""
    whole = (finished_run / "model.onnx").read_bytes()
    drawn = np.random.default_rng(8).integers(8 * len(whole), size=60)
    in_the_checksum = 8 * len(whole) - np.arange(1, 8 * 110, 13)
    path = tmp_path / "model.onnx"
    reasons = Counter()
    for bit in (*drawn, *in_the_checksum):
        path.write_bytes(flipped(whole, int(bit)))
        with pytest.raises(InputError, match=r"model\.onnx .*; export the model again$") as caught:
            read_metadata(path)
        reasons[str(caught.value).removeprefix(f"{path} ")] += 1
    (usual, count), *_ = reasons.most_common()
    assert usual.startswith("was changed since its export, by damage or by a program that edits graphs")
    assert count > 80
    assert any(reason.startswith("has no checksum") for reason in reasons)
    path.write_bytes(whole)
    assert read_metadata(path) == read_metadata(finished_run / "model.onnx")


def test_a_file_that_another_program_changed_is_refused(exported, finished_run, tmp_path):
    """As one that simplifies graphs: it keeps the metadata, or loses them."""
    changed = copy_of(exported)
    changed.graph.initializer[0].raw_data = bytes(len(changed.graph.initializer[0].raw_data))
    onnx.save_model(changed, tmp_path / "changed.onnx")
    longer = tmp_path / "longer.onnx"
    longer.write_bytes((finished_run / "model.onnx").read_bytes() + b"\x32\x01x")  # a text that explains
    for name in ("changed", "longer"):
        with pytest.raises(InputError, match=r"was changed since its export, .* a program that edits graphs"):
            opened(tmp_path / f"{name}.onnx")
    onnx.save_model(with_property(exported, "checksum", None), tmp_path / "older.onnx")
    with pytest.raises(InputError, match="has no checksum, so that another version or another program"):
        opened(tmp_path / "older.onnx")


def hidden_in_a_graph(tensor):
    graph = onnx.GraphProto()
    graph.initializer.append(tensor)
    return graph


@pytest.mark.parametrize("place", ["initializer", "sparse", "attribute", "subgraph", "function", "training"])
def test_weights_outside_the_file_are_refused_wherever_they_stand(exported, tmp_path, place):
    """A model file may not make the runtime read another file."""
    (tmp_path / "secret").write_bytes(bytes(64))
    (tmp_path / "models").mkdir()
    proto = copy_of(exported)
    outside = onnx.TensorProto(name="outside", data_type=onnx.TensorProto.FLOAT, dims=[16])
    outside.data_location = onnx.TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="../secret")
    if place == "initializer":
        proto.graph.initializer.append(outside)
    elif place == "sparse":
        proto.graph.sparse_initializer.add(values=outside, dims=[16])
    elif place == "attribute":
        proto.graph.node.add(op_type="Constant").attribute.add(name="value", t=outside)
    elif place == "subgraph":
        proto.graph.node.add(op_type="If").attribute.add(name="then_branch", g=hidden_in_a_graph(outside))
    elif place == "function":
        proto.functions.add(name="f").node.add(op_type="Constant").attribute.add(name="value", t=outside)
    else:
        proto.training_info.add(algorithm=hidden_in_a_graph(outside))
    path = saved(proto, tmp_path / "models" / "model.onnx")
    with pytest.raises(InputError, match="keeps weights outside itself"):
        opened(path)
    shutil.copy(saved(exported, path), tmp_path / "whole.onnx")
    found = opened(tmp_path / "whole.onnx")(np.zeros((1, 40, 40), np.uint8))
    assert found["probabilities"].shape == (1, 4)


def test_what_a_reader_relies_on_is_all_written(exported):
    written = {p.key.removeprefix("eigenfeatures.") for p in exported.metadata_props}
    assert metadata._NEEDED.keys() <= written
