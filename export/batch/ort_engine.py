"""The exported graph in ONNX Runtime, on the CPU or through CUDA."""

import hashlib
import math
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.preprocessing import operator_named
from eigenfeatures.export.batch.bound_batch import BoundBatch, Memory
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.engine import DeviceMemoryError, Engine, NoDeviceError, lacks_memory
from eigenfeatures.export.batch.facts import ModelFacts
from eigenfeatures.export.batch.of_maps import alpha_of, check_size, kernel_threads, triplets_of
from eigenfeatures.export.graph_edits import with_outputs
from eigenfeatures.export.metadata import open_graph
from eigenfeatures.export.outputs import ALPHA, DECOMPOSITION, RESPONSE_MAPS, is_array
from eigenfeatures.export.sessions import open_session, session_options

if TYPE_CHECKING:
    from eigenfeatures.export.batch.cuda_memory import CudaMemory

_ON_THE_CPU = {"Shape", "If", "Loop", "Scan"}
_DTYPES = {"tensor(uint8)": "u1", "tensor(uint16)": "u2", "tensor(int16)": "i2", "tensor(float)": "f4"}


class OrtEngine(Engine):
    """An exported model in ONNX Runtime; see `eigenfeatures.export.batch.engine.Engine`.

    On the CPU the graph ends at the response maps, and the kernels decompose them: in less time, and with the
    same results to the accuracy that both promise. Files that don't name these maps are run as they are.
    On a GPU the whole graph is recorded once and launched as one (a CUDA graph), by a thread of its own, and
    batches are copied on a stream of their own.

    Parameters
    ----------
    file
        What `eigenfeatures.export.onnx_model.export_onnx` wrote.
    outputs
        Names of the graph's outputs, or None for all but response maps.
    device
        ``cpu`` or ``cuda``.
    clock
        Measures all that the graph holds as one, such as ``gradient, network and SVD``; on the CPU ``alpha``
        and ``SVD``, where the kernels compute them, and on a GPU ``upload`` and ``download`` besides.
    tf32
        Let CUDA's convolutions and all products of matrices, so those of the SVD too, round their factors to
        10 bits.
    threads
        Of the CPU; None for a thread a core.
    keep
        Give arrays of CuPy on the GPU in place of the host's.

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
        keep: bool = False,
    ) -> None:
        if device == "cuda":
            _check_cuda()
        graph, metadata, content = open_graph(file)
        digest = hashlib.sha256(content).hexdigest()
        self.outputs = _choose(file, outputs, graph.graph.output)
        self._of_maps = _of_maps(graph, metadata, self.outputs) if device == "cpu" else frozenset()
        self._asked = tuple(name for name in self.outputs if name not in self._of_maps)
        if self._of_maps:
            self._asked += (RESPONSE_MAPS,)
        # Else ONNX Runtime computes all of the graph, whatever is asked for: the SVD too where classes are.
        whole = {*self._asked} == {output.name for output in graph.graph.output}
        if not whole:
            del content  # before copies of a part are made, since a model may be large
            content = with_outputs(graph, self._asked).SerializeToString()
        self.name, self.reason = f"ort-{device}", ""
        self._clock, self._threads, self._keep = clock, threads, keep
        self._content = _content(self._asked)
        self._memory = _cuda_memory() if device == "cuda" else None
        cuda = None if self._memory is None else _cuda_options(self._memory, graph, tf32)
        del graph  # of whose weights the session makes its own copy
        # Threads that wait for more work from ONNX Runtime would take the kernels' cores.
        self._session = _session(file, content, cuda, threads, spinning=not self._of_maps)
        self._worker = ThreadPoolExecutor(1, "GPU")  # whose thread begins when it is first needed
        self._bound: BoundBatch | None = None
        self._recordings = count()
        if self._memory is not None:
            self.reason = f"{self._memory.name}, by ONNX Runtime"
        facts = _facts(file, digest, metadata, self._session.get_inputs()[0])
        self.facts = replace(facts, seed=0) if self._of_maps else facts

    def run(self, batches: Iterable[NDArray[Any]]) -> Iterator[dict[str, Any]]:
        """Run the graph on batches of its dtype; on a GPU their copies go on beside the work."""
        try:
            memory = self._memory
            yield from map(self._on_cpu, batches) if memory is None else self._on_gpu(batches, memory)
        except Exception as error:  # ONNX Runtime's exceptions share no public base class
            if not lacks_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)  # which hold buffers that were being made
            self._unbind()
            raise DeviceMemoryError((str(error) or "out of memory").splitlines()[0]) from error

    def close(self) -> None:
        """Drop the session and its buffers."""
        self._worker.shutdown()
        self._unbind()
        self._session = None

    def _unbind(self) -> None:
        if self._bound is not None:
            self._bound.close()
            self._bound = None
        elif self._memory is not None:
            self._memory.settle()

    def _on_cpu(self, slices: NDArray[Any]) -> dict[str, NDArray[Any]]:
        with self._clock.span(self._content):
            given = {self._session.get_inputs()[0].name: slices}
            found = dict(zip(self._asked, self._session.run(list(self._asked), given), strict=True))
        if self._of_maps:
            maps = found[RESPONSE_MAPS]
            check_size(slices, maps, self.facts.rank, self.facts.file)
            found |= self._decomposed(maps)
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

    def _on_gpu(self, batches: Iterable[NDArray[Any]], memory: Memory) -> Iterator[dict[str, Any]]:
        """Run batches of which none is longer than the first."""
        following = iter(batches)
        first = next(following, None)
        if first is None:
            return
        if self._bound is None or not self._bound.takes(first):
            self._unbind()  # its buffers first, then the new ones
            kind, recording = (first.shape, first.dtype), next(self._recordings)
            making = self._worker.submit(BoundBatch, self._session, self._asked, *kind, memory, recording)
            self._bound = making.result()
        together = chain([first], following)
        yield from self._bound.run(
            together, self._clock, self._worker, keep=self._keep, content=self._content
        )


def _content(outputs: Sequence[str]) -> str:
    """Name the work of a graph that begins with raw slices, by what it gives."""
    parts = ["gradient", "network"]
    parts += [name for name, arrays in (("alpha", ALPHA), ("SVD", DECOMPOSITION)) if {*arrays} & {*outputs}]
    return " and ".join([", ".join(parts[:-1]), parts[-1]])


def _cuda_memory() -> "CudaMemory":
    """Return the memory of the GPU that CuPy computes on."""
    try:
        from eigenfeatures.export.batch.cuda_memory import CudaMemory

        return CudaMemory()
    except ImportError as error:
        raise NoDeviceError(f"CuPy is missing ({error}), which eigenfeatures[gpu] installs") from error
    except RuntimeError as error:  # the base of the driver's errors in CuPy
        raise NoDeviceError(f"CuPy finds no GPU ({error})") from error


def _cuda_options(memory: "CudaMemory", graph: Any, tf32: bool) -> dict[str, str]:
    # Where the first GPU is named, ONNX Runtime warns of a plugin that it looks for and does without.
    device = {"device_id": str(memory.number)} if memory.number else {}
    return device | {
        # All batches have one shape, so that the search for the fastest convolution is made once.
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "prefer_nhwc": str(int(_is_faster_channels_last(graph))),
        "use_tf32": str(int(tf32)),
        "enable_cuda_graph": str(int(_can_be_recorded(graph))),
        # Else it takes up to twice of what it needs, which CuPy can't have then.
        "arena_extend_strategy": "kSameAsRequested",
        "user_compute_stream": str(memory.stream),
    }


def _can_be_recorded(graph: Any) -> bool:
    """Tell a graph that CUDA can record, as all of ours, from one of which the CPU works out a part."""
    return not _ON_THE_CPU.intersection(node.op_type for node in graph.graph.node)


def _is_faster_channels_last(graph: Any) -> bool:
    """Tell which order of channels to ask for, by what was measured on an H200 (`export/SCALING.md`).

    The paper's network took 0.87 of the time with channels last in float32, and 1.5 times as long in float16.
    Convolutions of groups of channels were not measured, and stay as they are.
    """
    halves = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.graph.initializer)
    grouped = any(
        attribute.name == "group" and attribute.i > 1
        for node in graph.graph.node
        if node.op_type == "Conv"
        for attribute in node.attribute
    )
    return not halves and not grouped


def _session(
    file: Path, content: bytes, cuda: dict[str, str] | None, threads: int | None, spinning: bool
) -> Any:
    """Open the content of `file`, or a part of it, with CUDA by these options or on the CPU."""
    options = session_options()
    options.intra_op_num_threads = threads or 0
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    providers: list[Any] = ["CPUExecutionProvider"]
    if cuda is not None:
        providers = [("CUDAExecutionProvider", cuda)]
        if cuda["enable_cuda_graph"] == "1":
            # Else ONNX Runtime may leave nodes to the CPU and say nothing.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = open_session(content, options, providers)
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        reason = (str(error) or type(error).__name__).splitlines()[0]
        kind, device = (InputError, "cpu") if cuda is None else (NoDeviceError, "cuda")
        raise kind(f"{file} can't be run by ONNX Runtime on '{device}' ({reason})") from error
    if cuda is not None and session.get_providers()[0] != "CUDAExecutionProvider":
        raise NoDeviceError("ONNX Runtime made no session on the GPU")
    return session


def _check_cuda() -> None:
    """Refuse a build without CUDA. That it is named here is no proof of a GPU; a session on it is."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise NoDeviceError("this ONNX Runtime has no CUDA, which eigenfeatures[gpu] installs")
    if hasattr(onnxruntime, "preload_dlls"):
        # It looks for CUDA's libraries where pip puts them only if told to. What it prints is no result.
        with redirect_stdout(sys.stderr):
            onnxruntime.preload_dlls()


def _of_maps(graph: Any, metadata: dict[str, Any], outputs: Sequence[str]) -> frozenset[str]:
    """Return which outputs the kernels make of the response maps in a graph; none without a decomposition."""
    made = {name for node in graph.graph.node for name in node.output}
    if RESPONSE_MAPS not in made or not {*outputs} & {*DECOMPOSITION}:
        return frozenset()
    # Alpha is that of the pooled maps.
    names = (*DECOMPOSITION, *ALPHA) if metadata["resolution"] == "pooled" else DECOMPOSITION
    return frozenset(names).intersection(outputs)


def _facts(file: Path, digest: str, metadata: dict[str, Any], given: Any) -> ModelFacts:
    try:
        height, width = given.shape[1:]
        rows, columns = (_positive(side, "a side") for side in metadata["size"])
        size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
        if size not in (None, (rows, columns)):
            raise ValueError(f"slices of {rows}×{columns} pixels beside an input of {height}×{width}")
        crop = metadata.get("crop", {}).get("size")
        return ModelFacts(
            file=file,
            sha256=digest,
            classes=_distinct(metadata["classes"]),
            size=size,
            dtype=np.dtype(_DTYPES[given.type]),
            operator=operator_named(metadata["operator"]),
            preset=metadata["preset"],
            layer=metadata["layer"],
            resolution=metadata["resolution"],
            rank=metadata["rank"],
            crop=None if crop is None else _positive(crop, "a crop"),
            window=(rows, columns),
            weights=str(metadata.get("weights_sha256")),
            stack_dtypes=tuple(map(str, metadata.get("stack_dtypes", ()))),
            strides={
                str(layer): _positive(stride, "a stride")
                for layer, stride in metadata.get("strides", {}).items()
            },
            offsets={str(layer): _finite(offset) for layer, offset in metadata.get("offsets", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{file} does not say what it takes ({error}); export the model again") from error


def _distinct(names: Sequence[object]) -> tuple[str, ...]:
    """Return class names, which become columns."""
    texts = tuple(name for name in names if isinstance(name, str))
    if len({*texts}) < len(names):
        raise ValueError("classes that are not distinct names")
    return texts


def _positive(number: object, what: str) -> int:
    if not isinstance(number, int) or number < 1:
        raise ValueError(f"{what} of {number}")
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
