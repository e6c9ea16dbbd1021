"""What a study looks at: its trained runs, those of them that count, and their networks."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from eigenfeatures.eigen.device import choose_device
from eigenfeatures.eigen.files import sha256
from eigenfeatures.eigen.model_file import DESCRIPTION_FILE, load_model
from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.preprocessing import Preprocessing
from eigenfeatures.eigen.samples import SampleSet
from eigenfeatures.eigen.snapshots import load_snapshot, snapshot_iterations, snapshot_path
from eigenfeatures.eigen.split import TRAIN
from eigenfeatures.eigen.study.chunks import StudiedNetwork
from eigenfeatures.eigen.training import estimate_population
from eigenfeatures.export.run_folder import RunFolder
from eigenfeatures.export.settings import Settings
from eigenfeatures.export.study.plan import Group
from eigenfeatures.export.study.trainings import SNAPSHOTS
from eigenfeatures.export.tables import read_table

# Under this validation accuracy a network has not learned to tell the samples apart.
ACCEPTED_ACCURACY = 0.95


@dataclass(frozen=True)
class Subject:
    """A network that is loaded when it is needed.

    Attributes
    ----------
    name : str
        Of the run, and its state if it is not the trained one.
    seed : int
        Of the run.
    key : str
        Equal for equal weights.
    load : callable
        Gives the first layers, up to a response layer, on the CPU.
    """

    name: str
    seed: int
    key: str
    load: Callable[[str], StudiedNetwork]


@dataclass(frozen=True)
class StudyRun:
    """A run of a study.

    Attributes
    ----------
    name : str
        Of its folder.
    path : Path
        The folder.
    settings : Settings
        What it was trained with.
    accuracy : float or None
        On the validation part after the last iteration; None if the training diverged.
    """

    name: str
    path: Path
    settings: Settings
    accuracy: float | None

    @property
    def ended(self) -> bool:
        """Whether its training came to an end; it may have diverged."""
        return self.accuracy is not None

    @property
    def accepted(self) -> bool:
        """Whether it counts in figures of similarity."""
        return self.accuracy is not None and self.accuracy >= ACCEPTED_ACCURACY

    @cached_property
    def trained(self) -> Subject:
        """The network as it is after the training."""
        return Subject(self.name, self.settings.seed, sha256(self.path / "model.safetensors"), self._load)

    def untrained(self, samples: SampleSet) -> Subject:
        """Return the same network before its first iteration, its batch normalisation estimated."""
        made: list[StudiedNetwork] = []  # once, for all layers that are asked for

        def load(layer: str) -> StudiedNetwork:
            if not made:
                made.append(self._untrained(samples))
            return replace(made[0], network=made[0].network.up_to(layer))

        key = f"untrained {sorted(self.settings.to_toml().items())}"
        return Subject(f"{self.name} untrained", self.settings.seed, key, load)

    def at(self, iteration: int, layer: str) -> Subject:
        """Return the layers up to `layer`, as a snapshot has them."""
        folder = self.path / SNAPSHOTS

        def load(asked: str) -> StudiedNetwork:
            model = json.loads((self.path / DESCRIPTION_FILE).read_text(encoding="utf-8"))
            preset, classes, size = model["preset"], len(model["classes"]), tuple(model["size"])
            network = load_snapshot(folder, layer, iteration, preset, classes, size)
            return StudiedNetwork(self.name, network.up_to(asked), self._preprocessing())

        key = sha256(snapshot_path(folder, iteration))
        return Subject(self.name, self.settings.seed, key, load)

    @property
    def snapshots(self) -> list[int]:
        """The iterations of which there are snapshots."""
        return snapshot_iterations(self.path / SNAPSHOTS)

    def _load(self, layer: str) -> StudiedNetwork:
        model = load_model(self.path)
        return StudiedNetwork(self.name, model.network.up_to(layer), model.preprocessing)

    def _preprocessing(self) -> Preprocessing:
        return load_model(self.path).preprocessing

    @torch.inference_mode()
    def _untrained(self, samples: SampleSet) -> StudiedNetwork:
        settings = self.settings
        whole = build_network(settings.preset, len(samples.classes), samples.size, settings.seed)
        network = whole.up_to(whole.response_layers[-1])
        preprocessing = self._preprocessing()
        split = read_table(RunFolder.open(self.path).slices)["split"]
        training = np.flatnonzero(np.array(split) == TRAIN)
        device = choose_device(settings.device)
        network.to(device)
        estimate_population(network, samples, preprocessing, training, settings.plan.batch_size, device)
        return StudiedNetwork(self.name, network.to("cpu").eval(), preprocessing)


def study_runs(folder: Path, group: Group) -> tuple[StudyRun, ...]:
    """Return the runs of a group as their trainings left them below `folder`."""
    return tuple(
        StudyRun(name, folder / name, settings, _accuracy(folder / name))
        for name, settings in group.runs.items()
    )


def _accuracy(path: Path) -> float | None:
    description = path / DESCRIPTION_FILE
    if not description.is_file():
        return None
    reached = json.loads(description.read_text(encoding="utf-8"))["training"]
    return float(reached["validation_accuracy"])
