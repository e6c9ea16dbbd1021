"""Settings from TOML and from the command line are checked, and come back as they were."""

import tomllib
from pathlib import Path

import pytest
import tomli_w

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import Region
from eigenfeatures.export.settings import Settings, read_config

HERE = Path("settings.toml")


def test_toml_round_trip():
    settings = Settings(
        preset="reduced", roi={"a b": ("0,0,8,9",), "c": ("1,2,8,9", "3,4,8,9")}, voxel_size=2.0
    )
    text = tomli_w.dumps(settings.to_toml())
    assert Settings.from_toml(tomllib.loads(text), HERE) == settings
    assert settings.regions == {
        "a b": (Region(0, 0, 8, 9),),
        "c": (Region(1, 2, 8, 9), Region(3, 4, 8, 9)),
    }


def test_defaults_are_the_papers():
    plan = Settings().plan
    assert (plan.iterations, plan.batch_size, plan.learning_rate, plan.l2) == (70, 64, 0.01, 0.1)
    assert Settings(preset="reduced").plan.batch_size == 32
    assert Settings(preset="reduced", batch_size=64).plan.batch_size == 64


def test_keys_may_be_written_as_options():
    assert Settings.from_toml({"batch-size": 8, "voxel-size": 2}, HERE) == Settings(
        batch_size=8, voxel_size=2.0
    )


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"colour": 1}, "holds the unknown setting 'colour'; known are preset"),
        ({"preset": 3}, "'preset' must be str, and 3 is not"),
        ({"iterations": True}, "'iterations' must be int"),
        ({"iterations": 0}, "--iterations is 0; give at least 1"),
        ({"preset": "vgg"}, "--preset 'vgg' is unknown; choose one of paper, reduced, alexnet, small"),
        ({"rank": 9}, "--rank is 9; give at most 8"),
        ({"voxel_size": float("nan")}, "--voxel-size is nan"),
        ({"roi": "0,0,9,9"}, "'roi' must be a list of texts"),
        ({"roi": ["0,0,9"]}, "0,0,9"),
        ({"roi": {"a": [1]}}, "'roi' must be a list of texts"),
    ],
)
def test_mistakes_are_refused(values, reason):
    with pytest.raises(InputError, match=reason):
        Settings.from_toml(values, HERE)


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="can't be read: No such file"):
        read_config(tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("preset = ")
    with pytest.raises(InputError, match=r"bad\.toml is not valid TOML"):
        read_config(tmp_path / "bad.toml")
