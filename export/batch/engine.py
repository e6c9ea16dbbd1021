"""What runs a model on a few slices: one interface, whatever library and device is behind it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from eigenfeatures.eigen.choices import DEVICES
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.facts import ModelFacts

ENGINES = ("auto", "ort-cpu", "ort-cuda", "torch")

MODEL_FILE = "model.onnx"


class DeviceMemoryError(RuntimeError):
    """The device has too little memory for a batch; a smaller one may fit."""


# What messages say when an allocation fails, of libraries that have no exception of their own for it.
_OUT_OF_MEMORY = (
    "out of memory",
    "failed to allocate memory",
    "allocation failed",
    "alloc_failed",
    "bad_alloc",
    "bad allocation",
)


def lacks_memory(error: BaseException) -> bool:
    """Tell whether an error of a library is for want of memory; CuPy's is a `MemoryError`."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(part in text for part in _OUT_OF_MEMORY)


class NoDeviceError(InputError):
    """An engine finds no GPU here; another engine may."""


class Engine(Protocol):
    """A model that is ready to run.

    Attributes
    ----------
    name : str
        ``ort-cpu``, ``ort-cuda``, ``torch-cpu`` or ``torch-cuda``.
    reason : str
        Why it is this one, for people: the GPU and the library on it, and why engines that come first in
        ``auto`` can't be used.
    outputs : tuple of str
        The names of the arrays that it gives.
    facts : ModelFacts
        Of the model.
    torch_on_cpu : bool
        Whether torch computes a part on the CPU, whatever library the name tells.
    """

    torch_on_cpu: bool = False
    name: str
    reason: str
    outputs: tuple[str, ...]
    facts: ModelFacts

    def __call__(self, slices: NDArray[Any]) -> dict[str, Any]:
        """Run the model on raw slices ``(batch, H, W)``.

        Returns
        -------
        dict
            Each of `outputs` as an array ``(batch, …)`` on the host, unless it was opened to `keep` them.

        Raises
        ------
        DeviceMemoryError
            When the device has too little memory for so many slices.
        """
        (found,) = self.run([slices])
        return found

    def run(self, batches: Iterable[NDArray[Any]]) -> Iterator[dict[str, Any]]:
        """Run one batch after the other, none of which is longer than the first.

        An engine on a GPU copies batches beside its work on others.
        """
        ...

    def close(self) -> None:
        """Give back the model's memory."""
        ...


def open_engine(
    model: Path,
    outputs: Sequence[str] | None = None,
    engine: str = "auto",
    device: str = "auto",
    clock: Clock | None = None,
    *,
    tf32: bool = False,
    threads: int | None = None,
    keep: bool = False,
) -> Engine:
    """Open a model with the engine that was named, or with the best that is there.

    ``auto`` prefers a GPU that is proven by a session or a device on it, and ONNX Runtime to torch; only
    ``auto`` for both may end on the CPU. `Engine.reason` says why it is the one that it is.

    Parameters
    ----------
    model
        An exported ``.onnx``, or the folder of a run.
    outputs
        Which arrays; ``alpha`` stands for its three. By default all but response maps.
    engine
        One of `ENGINES`.
    device
        ``auto``, ``cpu`` or ``cuda``.
    clock
        Measures the parts of the engine's work.
    tf32
        Let convolutions on a GPU round their factors to 10 bits. ``ort-cuda`` then rounds those of all
        products of matrices as well, in the fully connected layers and in the SVD, since ONNX Runtime has
        one setting for a session. With ``torch`` the SVD and all else stay float32.
    threads
        That compute on the CPU; None for what ONNX Runtime or torch takes by itself. For torch it is
        a setting of the whole process.
    keep
        Leave on a GPU what is computed there, as tensors of torch or arrays of CuPy. What torch computes on
        the CPU are its tensors, too.

    Raises
    ------
    InputError
        When the model can't be read, does not give an output, or what was asked for is not there.
    """
    if engine not in ENGINES:
        raise InputError(f"engine '{engine}' is unknown; choose one of {', '.join(ENGINES)}")
    if device not in DEVICES:
        raise InputError(f"device '{device}' is unknown; choose one of {', '.join(DEVICES)}")
    if (engine, device) in (("ort-cpu", "cuda"), ("ort-cuda", "cpu")):
        raise InputError(f"--engine {engine} and --device {device} contradict each other; leave one out")
    if not model.exists():
        advice = (
            "export a model first"
            if model.name == MODEL_FILE
            else "give an exported .onnx or the folder of a run"
        )
        raise InputError(f"{model} is missing; {advice}")
    openers = _openers(model, outputs, clock or Clock(), tf32, threads, keep)
    refusals: dict[str, str] = {}
    for name in _candidates(model, engine, device):
        try:
            opened = openers[name]()
        except NoDeviceError as error:
            refusals[name] = str(error)
        else:
            if tf32 and opened.name.endswith("cpu"):
                raise InputError(f"--tf32 is for a GPU, and this runs on '{opened.name}'; leave it out")
            before = [f"not {refused}: {reason}" for refused, reason in refusals.items()]
            opened.reason = "; ".join([opened.reason] * bool(opened.reason) + before) or "as asked"
            return opened
    raise InputError(f"no GPU can be used: {'; '.join(refusals.values())}; use --device cpu")


def _candidates(model: Path, engine: str, device: str) -> list[str]:
    """Return what to try, in this order."""
    if engine == "torch":
        return {"cpu": ["torch-cpu"], "cuda": ["torch-cuda"], "auto": ["torch-cuda", "torch-cpu"]}[device]
    if engine != "auto":
        return [engine]
    is_run = model.is_dir()
    exported = not is_run or (model / MODEL_FILE).is_file()
    names = ["ort-cuda"] * exported + ["torch-cuda"] * is_run if device != "cpu" else []
    return [*names, "ort-cpu" if exported else "torch-cpu"] if device != "cuda" else names


def _openers(
    model: Path, outputs: Sequence[str] | None, clock: Clock, tf32: bool, threads: int | None, keep: bool
) -> dict[str, Callable[[], Engine]]:
    def ort(device: str) -> Engine:
        from eigenfeatures.export.batch.ort_engine import OrtEngine

        file = model / MODEL_FILE if model.is_dir() else model
        return OrtEngine(file, outputs, device, clock, tf32=tf32, threads=threads, keep=keep)

    def torch(device: str) -> Engine:
        from eigenfeatures.export.batch.torch_engine import TorchEngine

        if not model.is_dir():
            raise InputError(f"{model} is one file, and --engine torch needs the folder of a run")
        return TorchEngine(model, outputs, device, clock, tf32=tf32, threads=threads, keep=keep)

    return {
        f"{name}-{device}": partial(opener, device)
        for name, opener in (("ort", ort), ("torch", torch))
        for device in ("cpu", "cuda")
    }
