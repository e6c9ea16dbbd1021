"""A stack and a model to infer it with, as files: made once a session, in a temporary folder."""

import atexit
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from peers.inferred import Expected, expect
from peers.responses import CT, INPUT_SIDE, MATERIALS, resampled_slices

Array = NDArray[Any]


class Stack(NamedTuple):
    """A multi-page TIFF.

    Attributes
    ----------
    path
        The file.
    slices
        What it holds, ``(N, side, side)`` uint8.
    source
        Where they come from, for people.
    """

    path: Path
    slices: Array
    source: str


@cache
def folder() -> Path:
    """Return a folder that goes when the process ends."""
    path = Path(mkdtemp(prefix="eigenfeatures-benchmarks-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@cache
def stack_of(count: int, side: int) -> Stack:
    """Write a stack of real CT, of each material the same number of slices, or a stand-in that says so."""
    import tifffile

    slices, source = _slices(count, side)
    path = folder() / f"{count}-{side}.tif"
    tifffile.imwrite(path, slices, photometric="minisblack")
    return Stack(path, slices, source)


@cache
def model_of(side: int) -> Any:
    """Return the paper's network with its initial weights, batch normalisation calibrated.

    For slices of any other side than 266 it is the small network.
    """
    import torch

    from eigenfeatures.eigen.model_file import Model
    from eigenfeatures.eigen.network import build_network
    from eigenfeatures.eigen.preprocessing import Preprocessing

    network = build_network("paper" if side == INPUT_SIDE else "small", len(MATERIALS), (side, side))
    preprocessing = Preprocessing()
    with torch.no_grad():
        network(torch.from_numpy(preprocessing(_training_slices(side)))[:, None])
    return Model(network.eval(), tuple(MATERIALS), preprocessing, {})


@cache
def expected(count: int, side: int) -> Expected:
    """Return what the model says of the stack."""
    return expect(model_of(side).network, stack_of(count, side).slices)


@cache
def whole_file(side: int) -> Path:
    """Export the model with all of its default outputs, and logits."""
    from eigenfeatures.export.onnx_model import export_onnx
    from eigenfeatures.export.outputs import DEFAULT_OUTPUTS

    path = folder() / f"whole-{side}.onnx"
    outputs = (*DEFAULT_OUTPUTS, "logits")
    export_onnx(model_of(side), path, _training_slices(side)[:1], outputs=outputs, description={})
    return path


@cache
def file_of(side: int, output: str) -> Path:
    """Cut the whole graph down to one output: what an export of that alone gives, in less time."""
    import onnx
    from onnx.utils import Extractor

    from eigenfeatures.export.metadata import add_metadata, save_graph

    whole = onnx.load_model(whole_file(side))
    cut = Extractor(whole).extract_model(["slices"], [output])
    cut.metadata_props.extend(whole.metadata_props)
    add_metadata(cut, {"outputs": [output]})
    path = folder() / f"{output}-{side}.onnx"
    save_graph(cut, path)
    return path


@cache
def int8_file(side: int) -> Path:
    """Quantise the whole graph, calibrated on the slices that the model knows."""
    import onnx

    from eigenfeatures.export.metadata import save_graph
    from eigenfeatures.export.quantisation import to_int8

    path = folder() / f"int8-{side}.onnx"
    save_graph(to_int8(onnx.load_model(whole_file(side)), _training_slices(side)), path)
    return path


def flops_of(side: int, last: str = "logits") -> int:
    """Return the arithmetic of a slice in the convolutions up to a layer, a product and its sum being two."""
    import torch

    from eigenfeatures.eigen.responses import responses

    network = model_of(side).network
    layers = [name for name in network.response_layers if name.startswith("conv")]
    names = [name for name, _ in network.named_children()]
    layers = [name for name in layers if names.index(name) <= names.index(last)]
    with torch.inference_mode():
        maps = responses(network, torch.zeros(1, 1, side, side), layers)
    return sum(
        2 * getattr(network, name).weight.numel() * maps[name].shape[2] * maps[name].shape[3]
        for name in layers
    )


def _slices(count: int, side: int) -> tuple[Array, str]:
    if side == INPUT_SIDE and CT.is_dir():
        each = -(-count // len(MATERIALS))
        stacks = np.concatenate([resampled_slices(material, each) for material in MATERIALS])[:count]
        return np.clip(np.rint(stacks), 0, 255).astype(np.uint8), f"CT of {', '.join(MATERIALS)}"
    return _stand_in(count, side), "stand-in for CT"


def _training_slices(side: int) -> Array:
    """Return one slice of each material."""
    return _slices(len(MATERIALS), side)[0]


def _stand_in(count: int, side: int) -> Array:
    """Return smooth noise, from slice to slice of another grain."""
    import scipy.ndimage

    draw = np.random.default_rng(0)
    noise = [scipy.ndimage.gaussian_filter(draw.normal(size=(side, side)), 1 + k % 3) for k in range(count)]
    return np.stack([128 + 40 * image / image.std() for image in noise]).clip(0, 255).astype(np.uint8)
