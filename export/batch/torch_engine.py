"""The trained network of a run in torch, with the kernels' gradient and SVD on the same device."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from eigenfeatures.eigen.device import convolution_order
from eigenfeatures.eigen.files import sha256
from eigenfeatures.eigen.model_file import DESCRIPTION_FILE, load_model
from eigenfeatures.eigen.network import Network
from eigenfeatures.eigen.responses import responses
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.engine import Engine, NoDeviceError
from eigenfeatures.export.batch.facts import ModelFacts
from eigenfeatures.export.batch.folded import folded
from eigenfeatures.export.batch.of_maps import alpha_of, check_size, kernel_threads, triplets_of
from eigenfeatures.export.batch.out_of_memory import told_of_memory
from eigenfeatures.export.batch.overlap import overlapped
from eigenfeatures.export.batch.torch_copies import Copies, Upload, this_device
from eigenfeatures.export.metadata import read_metadata
from eigenfeatures.export.outputs import DEFAULT_OUTPUTS, checked_request
from eigenfeatures.export.raw_graph import of_network
from eigenfeatures.export.run_folder import RunFolder
from eigenfeatures.kernels import standardized_gradient
from eigenfeatures.kernels.call import LEAST_CAPABILITY


class TorchEngine(Engine):
    """The network of a run's folder in torch; see `eigenfeatures.export.batch.engine.Engine`.

    Slices are uploaded once; gradient, network and SVD stay on the device, and copies go on beside them. On a
    GPU, batch normalisation is folded into the convolutions.

    Parameters
    ----------
    run
        The folder of a run. Layer, resolution and rank are those of its ``model.onnx``, so that all engines
        give the same; without that file those of ``run.toml``.
    outputs
        As for an exported graph; None for all but response maps.
    device
        ``cpu`` or ``cuda``.
    clock
        Measures ``gradient``, ``network``, ``alpha`` and ``SVD``; on a GPU ``upload`` and ``download``, too.
    threads
        Of the CPU, for the whole process; None for what torch takes by itself.
    tf32
        Let CUDA's convolutions round their factors to 10 bits; the kernels' gradient and SVD stay float32.
    keep
        Give tensors on the device in place of arrays on the host.

    Raises
    ------
    InputError
        When the run has no model, the network no such output, or the machine no such device.
    """

    def __init__(
        self,
        run: Path,
        outputs: Sequence[str] | None,
        device: str,
        clock: Clock,
        *,
        tf32: bool = False,
        threads: int | None = None,
        keep: bool = False,
    ) -> None:
        reason = f"{_gpu()}, by torch" if device == "cuda" else ""
        if threads is not None:
            torch.set_num_threads(threads)
        self._device = this_device(device)
        folder = RunFolder.open(run)
        settings = folder.settings
        model = load_model(run)
        asked = DEFAULT_OUTPUTS if outputs is None else tuple(outputs)
        layer, resolution, rank = _decomposition(folder)
        self._request = checked_request(model.network, asked, layer, resolution, rank, any_size=False)
        self.name, self.reason = f"torch-{device}", reason
        self.outputs = self._request.arrays
        self._clock, self._seed = clock, settings.seed
        self._preprocessing = model.preprocessing
        network = model.network
        if device == "cuda":  # on the CPU it stays as it was trained, to the last bit
            network = folded(network, self._request.pooled | self._request.maps)
        self._network = network.to(self._device)
        self._order = convolution_order(self._device)
        self._network.to(memory_format=self._order)  # type: ignore[call-overload]
        self._copies = Copies(self._device) if device == "cuda" else None
        self._worker = ThreadPoolExecutor(1, "GPU")  # whose thread begins when it is first needed
        self._tf32, self._keep, self._threads = tf32, keep, threads
        description, cropped = run / DESCRIPTION_FILE, settings.size is not None
        self.facts = ModelFacts(
            file=description,
            # It names the hash of the weights, which was compared when they were loaded.
            sha256=sha256(description),
            classes=model.classes,
            # Where the training cut the centre of its slices it is cut here, as for an exported graph.
            size=model.network.size if cropped or "logits" in self._request.pooled else None,
            dtype=None,
            operator=model.preprocessing.operator,
            preset=model.network.preset,
            layer=layer,
            resolution=resolution,
            rank=rank,
            seed=settings.seed,
            crop=settings.size,
            window=model.network.size,
        )

    def run(self, batches: Iterable[NDArray[Any]]) -> Iterator[dict[str, Any]]:
        """Run batches of any dtype that the kernels take; on a GPU their copies go on beside the work."""
        copies = self._copies
        with told_of_memory():
            yield from map(self._on_cpu, batches) if copies is None else self._on_gpu(batches, copies)

    def close(self) -> None:
        """Drop the network."""
        self._worker.shutdown()
        del self._network

    def _on_cpu(self, slices: NDArray[Any]) -> dict[str, Any]:
        found = self._evaluate(torch.from_numpy(slices))
        return found if self._keep else {name: tensor.numpy() for name, tensor in found.items()}

    def _on_gpu(self, batches: Iterable[NDArray[Any]], copies: Copies) -> Iterator[dict[str, Any]]:
        def compute(uploaded: Upload) -> tuple[dict[str, Tensor], Any]:
            return self._evaluate(copies.arrived(uploaded)), copies.made()

        def download(computed: tuple[dict[str, Tensor], Any]) -> Callable[[], dict[str, Any]]:
            found, made = computed
            return (lambda: found) if self._keep else copies.download(found, made)

        return overlapped(batches, copies.upload, compute, download, self._clock, self._worker)

    @torch.inference_mode()
    def _evaluate(self, slices: Tensor) -> dict[str, Tensor]:
        """Return the outputs, on the device of the slices."""
        with kernel_threads(self._threads):
            found = self._found(slices)
        return {name: found[name] for name in self.outputs}

    def _found(self, slices: Tensor) -> dict[str, Tensor]:
        request = self._request
        with self._span("gradient"):
            images: Any = standardized_gradient(
                slices,
                self._preprocessing.operator,
                mean=self._preprocessing.mean,
                deviation=self._preprocessing.deviation,
            )
        # By default torch's convolutions use TF32 and don't say so.
        with self._span("network"), torch.backends.cudnn.flags(enabled=True, allow_tf32=self._tf32):
            inputs = images[:, None].float().contiguous(memory_format=self._order)
            found, pooled, maps = of_network(request, partial(_respond, self._network, inputs))
        if "alpha" in request.outputs:
            with self._span("alpha"):
                found |= alpha_of(pooled[request.layer])
        if request.decomposes:
            check_size(slices, maps[request.layer], request.rank, self.facts.file)
            with self._span("SVD"):
                found |= triplets_of(maps[request.layer], request.rank, self._seed)
        return found

    @contextmanager
    def _span(self, name: str) -> Iterator[None]:
        """Measure what the device did, not only how long it took to ask for it."""
        with self._clock.span(name):
            yield
            if self._device.type == "cuda":
                torch.cuda.current_stream(self._device).synchronize()


def _gpu() -> str:
    """Return the name of the GPU; refuse one that the kernels can't use."""
    if not torch.cuda.is_available():
        raise NoDeviceError("torch finds no GPU")
    if torch.cuda.get_device_capability() < LEAST_CAPABILITY:
        raise NoDeviceError("the kernels need a GPU of compute capability {}.{}".format(*LEAST_CAPABILITY))
    return str(torch.cuda.get_device_name())


def _decomposition(folder: RunFolder) -> tuple[str, str, int]:
    """Return layer, resolution and rank as they were exported, since a later `features` may have others."""
    if folder.onnx.is_file():
        said = read_metadata(folder.onnx)
        return said["layer"], said["resolution"], said["rank"]
    settings = folder.settings
    return settings.layer, settings.resolution, settings.rank


def _respond(network: Network, images: Tensor, layers: Collection[str], resolution: str) -> dict[str, Tensor]:
    """Return response maps with the channels first in memory, as the kernels read them."""
    found = responses(network, images, layers, resolution)
    return {name: tensor.contiguous() for name, tensor in found.items()}
