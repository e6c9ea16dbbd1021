"""The folder of a run: which files it holds, what made them, and whether they fit together."""

import os
import platform
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import tomli_w

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.files import is_leftover, remove_leftovers, sha256, write_text
from eigenfeatures.eigen.progress import Track
from eigenfeatures.eigen.samples import SampleSet, open_samples
from eigenfeatures.export.settings import FEATURE_SETTINGS, Settings
from eigenfeatures.export.versions import versions


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run, and what ``run.toml`` says of it.

    Attributes
    ----------
    path : Path
        The folder.
    samples : Path
        The folder of stacks that it was made from.
    settings : Settings
        All settings.
    inputs : dict
        File name below `samples` to SHA-256.
    """

    path: Path
    samples: Path
    settings: Settings
    inputs: dict[str, str]

    @property
    def record(self) -> Path:
        """``run.toml``."""
        return self.path / "run.toml"

    @property
    def slices(self) -> Path:
        """``slices.csv``."""
        return self.path / "slices.csv"

    @property
    def training(self) -> Path:
        """``training.csv``."""
        return self.path / "training.csv"

    @property
    def metrics(self) -> Path:
        """``metrics.json``."""
        return self.path / "metrics.json"

    @property
    def onnx(self) -> Path:
        """``model.onnx``."""
        return self.path / "model.onnx"

    @property
    def checkpoint(self) -> Path:
        """The state of an unfinished training."""
        return self.path / "checkpoint.safetensors"

    @property
    def eigenfeatures(self) -> Path:
        """The folder of eigenfeature stacks."""
        return self.path / "eigenfeatures"

    @property
    def figures(self) -> Path:
        """The folder of figures."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        """``report.html``."""
        return self.path / "report.html"

    @property
    def has_model(self) -> bool:
        """Whether its training is finished."""
        from eigenfeatures.eigen.model_file import DESCRIPTION_FILE

        return (self.path / DESCRIPTION_FILE).is_file()

    def remove_leftovers(self) -> None:
        """Remove what a killed run was writing (see `atomic_path`), and a checkpoint that is done with."""
        remove_leftovers(self.path)
        if self.has_model:
            self.checkpoint.unlink(missing_ok=True)

    def open_samples(self) -> SampleSet:
        """Open the stacks as this run cut them.

        Raises
        ------
        InputError
            Also when they are no longer where they were.
        """
        if not self.samples.exists():
            raise InputError(
                f"{self.path} was made from {self.samples}, and there is no such folder now; move it back, "
                f"or set 'samples' in {self.record} to where it is"
            )
        return open_samples(self.samples, size=self.settings.size, regions=self.settings.regions)

    def write_record(self) -> None:
        """Write ``run.toml``."""
        import torch

        from eigenfeatures.eigen.device import choose_device, trains_in_bfloat16

        device = choose_device(self.settings.device)
        text = tomli_w.dumps(
            {
                "samples": str(self.samples),
                "settings": self.settings.to_toml(),
                "device": {
                    "name": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
                    "processor": _processor(),
                    "threads": torch.get_num_threads(),
                    "training_precision": "bfloat16" if trains_in_bfloat16(device) else "float32",
                },
                "versions": {"python": platform.python_version(), **versions()},
                "inputs": self.inputs,
            }
        )
        write_text(self.record, text)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Read the record of a run.

        Raises
        ------
        InputError
            When the folder is missing or its ``run.toml`` is no record of a run.
        """
        record = path / "run.toml"
        if not record.is_file():
            raise InputError(f"{path} is not the folder of a run: it holds no run.toml")
        try:
            with record.open("rb") as file:
                found = tomllib.load(file)
            settings = Settings.from_toml(found["settings"], record)
            inputs = {str(name): str(value) for name, value in found["inputs"].items()}
            return cls(path, Path(found["samples"]), settings, inputs)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, AttributeError, TypeError) as error:
            raise InputError(
                f"{record} is not the record of a run ({error}); choose another folder"
            ) from error


def check_empty(path: Path) -> None:
    """Refuse an output folder that holds anything but what a killed process was writing.

    Raises
    ------
    InputError
        Also when it can't be made, since a file is in its way.
    """
    if not _is_free(path):
        raise InputError(f"{path} is not empty; choose another folder")


def check_outside(path: Path, samples: Path) -> None:
    """Refuse an output folder inside the samples, where it would be taken for one of them."""
    try:
        inside = path.resolve().is_relative_to(samples.resolve())
    except (RuntimeError, OSError) as error:  # the former before Python 3.13
        raise InputError(f"{path} or {samples} is a link that leads to itself; name a real folder") from error
    if inside:
        raise InputError(f"{path} lies inside the samples {samples}; choose a folder outside them for --out")


def check_vacant(path: Path, resume: bool) -> None:
    """Refuse an output folder whose content a new run would mix with.

    A folder that holds the statistics of a run and no more may be used again.

    Raises
    ------
    InputError
        When it holds other files, or a run that is not to be resumed.
    """
    if _is_free(path):
        return
    if not (path / "run.toml").is_file():
        raise InputError(f"{path} is not empty and holds no run; choose another folder for --out")
    found = RunFolder.open(path)
    if not resume and (found.has_model or found.checkpoint.exists()):
        raise InputError(
            f"{path} holds another run; add --resume to continue it, or choose another folder for --out"
        )


def _is_free(path: Path) -> bool:
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise InputError(f"{nearest} is a file; choose another folder")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"{nearest} can't be written; choose another folder for --out")
    # What a process left that was killed as it began must not bar the folder for ever.
    return nearest != path or all(is_leftover(entry) for entry in path.iterdir())


def check_same_inputs(run: RunFolder, inputs: dict[str, str]) -> None:
    """Refuse to go on with a run when its stacks are no longer what they were.

    Raises
    ------
    InputError
        With the first file that differs.
    """
    for name in sorted({*run.inputs, *inputs}):
        if run.inputs.get(name) != inputs.get(name):
            raise InputError(
                f"{run.path} was made from other data ({name} differs); start a new run in another folder"
            )


def check_same_settings(path: Path, settings: Settings, recorded: Settings | None = None) -> None:
    """Refuse to resume a run with other settings than those `recorded`; the device may be another one.

    Raises
    ------
    InputError
        With the first setting that differs.
    """
    before, now = (recorded or RunFolder.open(path).settings).to_toml(), settings.to_toml()
    for name in sorted({*before, *now} - {"device"}):
        if before.get(name) != now.get(name):
            if name in FEATURE_SETTINGS and (path / "eigenfeatures").is_dir():
                raise InputError(
                    f"{path} has features of {name} = {before.get(name)}, and now it is {now.get(name)}; "
                    f"resume with the former, or first change it by 'eigenfeatures features {path} "
                    f"--{name} {now.get(name)}'"
                )
            raise InputError(
                f"{path} was made with {name} = {before.get(name)}, and now it is {now.get(name)}; "
                "resume with the same settings or choose another folder for --out"
            )


def hash_inputs(samples: SampleSet, track: Track) -> dict[str, str]:
    """Return the SHA-256 of every file of the stacks, by its name below their folder."""
    files = samples.files()
    return {
        file.relative_to(samples.root).as_posix(): sha256(file)
        for file in track(files, "hashing", len(files))
    }


def repeats(samples: SampleSet, inputs: dict[str, str]) -> list[str]:
    """Return a note on each stack whose files are those of another one, and on slices that samples share."""
    first: dict[tuple[str, ...], str] = {}
    by_sample: dict[str, list[str]] = {name: [] for name in samples.classes}
    notes = []
    for stack, sample in {specimen.stack: specimen.sample for specimen in samples.specimens}.items():
        name = stack.path.relative_to(samples.root).as_posix()
        digests = tuple(inputs[file.relative_to(samples.root).as_posix()] for file in stack.files)
        if (twin := first.setdefault(digests, name)) != name:
            notes.append(f"{twin} and {name} hold the same bytes; no network can tell copies apart")
        else:
            by_sample[sample] += digests
    for (one, files), (other, others) in combinations(by_sample.items(), 2):
        if count := len(set(files) & set(others)):
            notes.append(
                f"samples '{one}' and '{other}' share slices (files with the same bytes: {count}); "
                "no network can tell copies apart"
            )
    return notes


def _processor() -> str:
    import torch

    found: Mapping[str, Any] = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return f"{platform.machine()} {found.get('cpu_name', '')}".strip()
