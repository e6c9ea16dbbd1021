"""All settings of a run, defined once: for the command line, the TOML file and ``run.toml``."""

import math
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from eigenfeatures.eigen.choices import AUGMENTATIONS, DEVICES, LABELS, PRESETS, RESOLUTIONS
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.preprocessing import NORMALISATIONS
from eigenfeatures.eigen.split import SPLITS
from eigenfeatures.eigen.stacks import Region
from eigenfeatures.eigen.training_plan import TrainingPlan
from eigenfeatures.kernels import OPERATORS

FEATURE_SETTINGS = ("layer", "resolution", "rank")
"""What the features of a trained network are of; they may be changed after the training."""

_SMALLER_BATCH = {"reduced": 32}
_LARGEST_SEED = 2**32 - 1


def _setting(
    default: Any,
    text: str,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
) -> Any:
    metadata = {"help": text, "choices": choices, "minimum": minimum, "maximum": maximum}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """What a run does; each field is an option, a key of the TOML file and a line of ``run.toml``.

    Raises
    ------
    InputError
        For a value that is out of range or not among the choices.
    """

    preset: str = _setting("paper", "network", PRESETS)
    operator: str = _setting("sobel", "gradient operator", OPERATORS)
    split: str = _setting("block", "how validation slices are held out", SPLITS)
    size: int | None = _setting(None, "side of a centre crop in pixels (default: the common size)", minimum=1)
    roi: tuple[str, ...] | dict[str, tuple[str, ...]] = _setting(
        (), "region 'top,left,height,width' to cut from every slice; repeatable; by sample in the TOML file"
    )
    augment: str = _setting("flips", "augmentation of the training slices", AUGMENTATIONS)
    normalise: str = _setting("slice", "standardise by each slice or by the training set", NORMALISATIONS)
    voxel_size: float | None = _setting(
        None, "edge of a voxel in µm (default: as the files say)", minimum=1e-9
    )
    iterations: int = _setting(70, "training iterations", minimum=1)
    batch_size: int | None = _setting(None, "slices an iteration (default: 64; 32 for reduced)", minimum=1)
    learning_rate: float = _setting(0.01, "learning rate", minimum=1e-9)
    l2: float = _setting(0.1, "λ of the L2 penalty on weights", minimum=0)
    early_stop: int | None = _setting(None, "stop after so many validations without a lower loss", minimum=1)
    seed: int = _setting(0, "seed of all that is random", minimum=0, maximum=_LARGEST_SEED)
    split_seed: int | None = _setting(
        None, "seed of the split (default: the seed)", minimum=0, maximum=_LARGEST_SEED
    )
    labels: str = _setting("true", "shuffled is a control: training slices with each other's labels", LABELS)
    layer: str = _setting("relu2", "response layer: conv1, relu1, conv2 …")
    resolution: str = _setting("pooled", "response maps as trained, or one pixel a slice pixel", RESOLUTIONS)
    rank: int = _setting(1, "how many singular vectors to write, up to 8", minimum=1, maximum=8)
    device: str = _setting("auto", "where the network runs", DEVICES)

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(item.name, getattr(self, item.name), item.metadata)
        self.regions  # noqa: B018  (parsed now, so that a mistake shows before any work)

    @property
    def regions(self) -> tuple[Region, ...] | dict[str, tuple[Region, ...]]:
        """The regions of interest, for all samples or by sample."""
        if isinstance(self.roi, dict):
            return {sample: tuple(map(Region.parse, texts)) for sample, texts in self.roi.items()}
        return tuple(map(Region.parse, self.roi))

    @property
    def plan(self) -> TrainingPlan:
        """The hyperparameters of the training."""
        return TrainingPlan(
            iterations=self.iterations,
            batch_size=self.batch_size or _SMALLER_BATCH.get(self.preset, 64),
            learning_rate=self.learning_rate,
            l2=self.l2,
            augment=self.augment,
            early_stop=self.early_stop,
            labels=self.labels,
            seed=self.seed,
        )

    @property
    def seed_of_split(self) -> int:
        """The seed of the split, which is the seed of the run unless set."""
        return self.seed if self.split_seed is None else self.split_seed

    def to_toml(self) -> dict[str, Any]:
        """Return the settings as TOML holds them: without those that are None."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def used(self) -> dict[str, Any]:
        """Return every setting as it was used, also where none was given."""
        used = asdict(self) | {"batch_size": self.plan.batch_size, "split_seed": self.seed_of_split}
        return {name: "–" if value in (None, ()) else value for name, value in used.items()}

    @classmethod
    def from_toml(cls, values: Mapping[str, Any], source: Path) -> "Settings":
        """Build settings from the keys of a TOML table.

        Raises
        ------
        InputError
            For an unknown key, or a value of the wrong kind or range.
        """
        known = typing.get_type_hints(cls)
        found: dict[str, Any] = {}
        for key, value in values.items():
            name = key.replace("-", "_")
            if name not in known:
                raise InputError(f"{source} holds the unknown setting '{key}'; known are {', '.join(known)}")
            found[name] = (
                _regions_from_toml(value, source)
                if name == "roi"
                else _of_type(value, known[name], key, source)
            )
        return cls(**found)


def read_config(path: Path) -> dict[str, Any]:
    """Read a TOML file of settings.

    Raises
    ------
    InputError
        When it is missing or not TOML.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}") from error


def _check(name: str, value: Any, rule: Mapping[str, Any]) -> None:
    option = "--" + name.replace("_", "-")
    if rule["choices"] and value not in rule["choices"]:
        raise InputError(f"{option} '{value}' is unknown; choose one of {', '.join(rule['choices'])}")
    if value is None:
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{option} is {value}; give a finite number")
    if rule["minimum"] is not None and value < rule["minimum"]:
        raise InputError(f"{option} is {value}; give at least {rule['minimum']:g}")
    if rule["maximum"] is not None and value > rule["maximum"]:
        raise InputError(f"{option} is {value}; give at most {rule['maximum']:.12g}")


def _of_type(value: Any, kind: Any, key: str, source: Path) -> Any:
    wanted = next(part for part in typing.get_args(kind) or (kind,) if part is not type(None))
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise InputError(f"{source}: '{key}' must be {wanted.__name__}, and {value!r} is not")
    return value


def _regions_from_toml(value: Any, source: Path) -> Any:
    if isinstance(value, dict):
        return {str(sample): _regions_from_toml(texts, source) for sample, texts in value.items()}
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InputError(
            f"{source}: 'roi' must be a list of texts as \"top,left,height,width\", or a table of such lists"
        )
    return tuple(value)
