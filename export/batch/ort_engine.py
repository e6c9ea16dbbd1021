"""The exported graph in ONNX Runtime, on the CPU or, not yet run on a GPU, through CUDA."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.files import sha256
from eigenfeatures.eigen.preprocessing import operator_named
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.engine import DeviceMemoryError, NoDeviceError
from eigenfeatures.export.batch.facts import ModelFacts
from eigenfeatures.export.batch.of_maps import alpha_of, kernel_threads, triplets_of
from eigenfeatures.export.graph_edits import with_outputs
from eigenfeatures.export.metadata import load_graph, metadata_of
from eigenfeatures.export.outputs import ALPHA, DECOMPOSITION, RESPONSE_MAPS, is_array

_DTYPES = {"tensor(uint8)": "u1", "tensor(uint16)": "u2", "tensor(int16)": "i2", "tensor(float)": "f4"}

# What ONNX Runtime's messages say when an allocation fails; it has no exception of its own for it.
_OUT_OF_MEMORY = ("out of memory", "failed to allocate memory", "bad_alloc", "bad allocation")


class OrtEngine:
    """An exported model in ONNX Runtime; see `eigenfeatures.export.batch.engine.Engine`.

    On the CPU the graph ends at the response maps, and the kernels decompose them: in less time, and with the
    same results to the accuracy that both promise. Files that don't name these maps are run as they are.

    Parameters
    ----------
    file
        What `eigenfeatures.export.onnx_model.export_onnx` wrote.
    outputs
        Names of the graph's outputs, or None for all but response maps.
    device
        ``cpu`` or ``cuda``. The second has not yet run on a GPU.
    clock
        Measures ``upload``, ``network and SVD`` and ``download``; on the CPU ``network``, ``alpha``, ``SVD``.
    tf32
        Let CUDA's convolutions and products round their factors to 10 bits.
    threads
        Of the CPU; None for a thread a core.

    Raises
    ------
    InputError
        When the file can't be run there, or lacks an output.
    """

    def __init__(
        self,
        file: Path,
        outputs: Sequence[str] | None,
        device: str,
        clock: Clock,
        *,
        tf32: bool = False,
        threads: int | None = None,
    ) -> None:
        if device == "cuda":
            _check_cuda()
        graph = load_graph(file)
        metadata = metadata_of(file, graph)
        self.outputs = _choose(file, outputs, graph.graph.output)
        self._of_maps = _of_maps(graph, metadata, self.outputs) if device == "cpu" else frozenset()
        self._asked = tuple(name for name in self.outputs if name not in self._of_maps)
        if self._of_maps:
            self._asked += (RESPONSE_MAPS,)
        # Else ONNX Runtime computes all of the graph, whatever is asked for: the SVD too where classes are.
        whole = {*self._asked} == {output.name for output in graph.graph.output}
        model = file if whole else with_outputs(graph, self._asked).SerializeToString()
        self.name, self.reason = f"ort-{device}", ""
        self._clock, self._device, self._threads = clock, device, threads
        # All batches have one shape, so that the search for the fastest convolution is made once.
        cuda = {"cudnn_conv_algo_search": "EXHAUSTIVE", "use_tf32": int(tf32)}
        # Threads that wait for more work from ONNX Runtime would take the kernels' cores.
        self._session = _session(file, model, device, cuda, threads, spinning=not self._of_maps)
        self._bound: BoundBatch | None = None
        facts = _facts(file, metadata, self._session.get_inputs()[0])
        self.facts = replace(facts, seed=0) if self._of_maps else facts

    def __call__(self, slices: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run the graph on raw slices ``(batch, H, W)`` of its dtype."""
        try:
            return self._on_cpu(slices) if self._device == "cpu" else self._on_gpu(slices)
        except MemoryError as error:
            raise DeviceMemoryError(str(error)) from error
        except Exception as error:  # ONNX Runtime's exceptions share no public base class
            if any(text in str(error).lower() for text in _OUT_OF_MEMORY):
                self._bound = None
                raise DeviceMemoryError(str(error).splitlines()[0]) from error
            raise

    def close(self) -> None:
        """Drop the session and its buffers."""
        self._bound = None
        self._session = None

    def _on_cpu(self, slices: NDArray[Any]) -> dict[str, NDArray[Any]]:
        with self._clock.span("network" if self._of_maps else "network and SVD"):
            given = {self._session.get_inputs()[0].name: slices}
            found = dict(zip(self._asked, self._session.run(list(self._asked), given), strict=True))
        if self._of_maps:
            found |= self._decomposed(found[RESPONSE_MAPS])
        return {name: found[name] for name in self.outputs}

    def _decomposed(self, maps: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the arrays that the kernels make of response maps."""
        found: dict[str, NDArray[Any]] = {}
        try:
            with kernel_threads(self._threads):
                if self._of_maps.intersection(ALPHA):
                    with self._clock.span("alpha"):
                        found |= alpha_of(maps)
                with self._clock.span("SVD"):
                    return found | triplets_of(maps, self.facts.rank)
        except ValueError as error:  # the file may be anyone's
            file = self.facts.file
            raise InputError(f"{file} can't be decomposed: {error}; export the model again") from error

    def _on_gpu(self, slices: NDArray[Any]) -> dict[str, NDArray[Any]]:
        if self._bound is None or not self._bound.takes(slices):
            self._bound = None  # its buffers first, then the new ones
            self._bound = BoundBatch(self._session, self._asked, slices, self._device)
        return self._bound.run(slices, self._clock)


class BoundBatch:
    """Buffers on a device for batches of one shape: nothing is allocated from batch to batch.

    A shorter batch, the last one, is filled up with zeros, so that the shapes stay.
    Not yet run on a GPU; tested on the CPU's memory.

    Parameters
    ----------
    session
        Of ONNX Runtime.
    outputs
        Their names.
    slices
        A batch of the largest length.
    device
        ``cuda`` or ``cpu``.
    """

    def __init__(self, session: Any, outputs: tuple[str, ...], slices: NDArray[Any], device: str) -> None:
        self._session, self._outputs = session, outputs
        self._host = np.zeros_like(slices)
        self._input = onnxruntime.OrtValue.ortvalue_from_numpy(self._host, device, 0)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(session.get_inputs()[0].name, self._input)
        for name in outputs:
            self._binding.bind_output(name, device)
        # The first run finds the outputs' shapes; its buffers are kept for all others.
        session.run_with_iobinding(self._binding)
        self._results = self._binding.get_outputs()
        for name, value in zip(outputs, self._results, strict=True):
            self._binding.bind_ortvalue_output(name, value)

    def takes(self, slices: NDArray[Any]) -> bool:
        """Tell whether a batch fits into the buffers."""
        return len(slices) <= len(self._host) and slices.shape[1:] == self._host.shape[1:]

    def run(self, slices: NDArray[Any], clock: Clock) -> dict[str, NDArray[Any]]:
        """Upload, run and download."""
        with clock.span("upload"):
            self._host[: len(slices)] = slices
            self._host[len(slices) :] = 0
            self._input.update_inplace(self._host)
            self._binding.synchronize_inputs()
        with clock.span("network and SVD"):
            self._session.run_with_iobinding(self._binding)
            self._binding.synchronize_outputs()
        with clock.span("download"):
            # A copy even where the buffer is the host's, since the next batch overwrites it.
            return {
                name: np.array(value.numpy()[: len(slices)])
                for name, value in zip(self._outputs, self._results, strict=True)
            }


def _session(
    file: Path, model: Path | bytes, device: str, cuda: dict[str, Any], threads: int | None, spinning: bool
) -> Any:
    """Open `model`, which is `file` or what was taken of it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    providers: list[Any] = ["CPUExecutionProvider"]
    if device == "cuda":
        # Without this ONNX Runtime falls back to the CPU and says nothing.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        providers = [("CUDAExecutionProvider", cuda)]
    try:
        session = onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        reason = str(error).splitlines()[0]
        kind = NoDeviceError if device == "cuda" else InputError
        raise kind(f"{file} can't be run by ONNX Runtime on '{device}' ({reason})") from error
    if device == "cuda" and session.get_providers()[0] != "CUDAExecutionProvider":
        raise NoDeviceError("ONNX Runtime made no session on the GPU")
    return session


def _check_cuda() -> None:
    """Refuse a build without CUDA. That it is named here is no proof of a GPU; a session on it is."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise NoDeviceError("this ONNX Runtime has no CUDA, which eigenfeatures[gpu] installs")


def _of_maps(graph: Any, metadata: dict[str, Any], outputs: Sequence[str]) -> frozenset[str]:
    """Return which outputs the kernels make of the response maps in a graph; none without a decomposition."""
    made = {name for node in graph.graph.node for name in node.output}
    if RESPONSE_MAPS not in made or not {*outputs} & {*DECOMPOSITION}:
        return frozenset()
    # Alpha is that of the pooled maps.
    names = (*DECOMPOSITION, *ALPHA) if metadata["resolution"] == "pooled" else DECOMPOSITION
    return frozenset(names).intersection(outputs)


def _facts(file: Path, metadata: dict[str, Any], given: Any) -> ModelFacts:
    try:
        height, width = given.shape[1:]
        rows, columns = (int(side) for side in metadata["size"])
        crop = metadata.get("crop", {}).get("size")
        return ModelFacts(
            file=file,
            sha256=sha256(file),
            classes=tuple(metadata["classes"]),
            size=(height, width) if isinstance(height, int) and isinstance(width, int) else None,
            dtype=np.dtype(_DTYPES[given.type]),
            operator=operator_named(metadata["operator"]),
            preset=metadata["preset"],
            layer=metadata["layer"],
            resolution=metadata["resolution"],
            rank=metadata["rank"],
            crop=None if crop is None else int(crop),
            window=(rows, columns),
            strides={str(layer): _positive(stride) for layer, stride in metadata.get("strides", {}).items()},
            offsets={str(layer): _finite(offset) for layer, offset in metadata.get("offsets", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{file} does not say what it takes ({error}); export the model again") from error


def _positive(number: object) -> int:
    if not isinstance(number, int) or number < 1:
        raise ValueError(f"a stride of {number}")
    return number


def _finite(number: object) -> float:
    if not isinstance(number, int | float) or not math.isfinite(number):
        raise ValueError(f"an offset of {number}")
    return float(number)


def _choose(file: Path, asked: Sequence[str] | None, found: Iterable[Any]) -> tuple[str, ...]:
    """Return the outputs that were asked for, or by default all but response maps."""
    dimensions = {output.name: len(output.type.tensor_type.shape.dim) for output in found}
    # They become names of folders and columns, and the file may be anyone's.
    if unknown := [name for name in dimensions if not is_array(name)]:
        raise InputError(f"{file} gives {unknown[0]!r}, which no model of ours does; export the model again")
    if asked is None:
        default = (name for name, axes in dimensions.items() if axes < 4 or name == "eigenfeatures")
        return tuple(default) or tuple(dimensions)
    chosen = tuple(
        dict.fromkeys(array for name in asked for array in (ALPHA if name == "alpha" else (name,)))
    )
    missing = [name for name in chosen if name not in dimensions]
    if missing or not chosen:
        raise InputError(
            f"{file} gives no output '{', '.join(missing)}', only {', '.join(dimensions)}; "
            "choose among these or export the model again with --outputs"
        )
    return chosen
