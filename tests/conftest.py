"""Where the real CT stacks lie; tests that need them skip, saying why, where they are absent."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from eigenfeatures.export.settings import Settings

# As the command does: threads that wait actively slow each other down on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A shell starts with Ctrl-C ignored what it runs in the background, and tests of it would fail there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests of this folder share one study, which takes a minute to make.
_ONE_STUDY = "tests/export/study/"

# These share nothing, and take minutes each.
_TRAININGS = "tests/export/test_claims.py"

DATA = Path(os.environ.get("EIGENFEATURES_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.hookimpl(optionalhook=True, tryfirst=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where workers share the tests, by ``-n 2``, leave together what shares fixtures."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        """Files, and the folder of the one study; but trainings one by one."""

        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            if file == _TRAININGS:
                return nodeid
            return _ONE_STUDY if file.startswith(_ONE_STUDY) else file

    return Together(config, log)


def _folder(name: str) -> Path:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"real CT data are absent: no folder {folder} (set EIGENFEATURES_DATA)")
    return folder


@pytest.fixture(scope="session")
def ct_data() -> Path:
    """The folder of real CT stacks, one entry a material."""
    return _folder("ct")


@pytest.fixture(scope="session")
def odd_tiffs() -> Path:
    """Valid TIFFs that readers stumble over."""
    return _folder("odd_tiffs")


@pytest.fixture(scope="session")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four synthetic samples of 16 slices of 40×40."""
    from eigenfeatures.eigen.phantom import make_phantom

    return make_phantom(tmp_path_factory.mktemp("stacks") / "samples", slices=16, size=40, layout="stacks")


@pytest.fixture(scope="session")
def finished_run(stacks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run on `stacks`; read it, don't change it."""
    from eigenfeatures.eigen.progress import silent
    from eigenfeatures.export.pipeline import complete_run
    from eigenfeatures.export.talk import Talk

    out = tmp_path_factory.mktemp("run") / "run"
    complete_run(stacks, out, quick_settings(), False, Talk(silent, lambda _: None))
    return out


def quick_settings(**changes: object) -> Settings:
    """Settings of a run that takes seconds."""
    from eigenfeatures.export.settings import Settings

    return Settings(**{"preset": "small", "iterations": 6, "batch_size": 8, "rank": 2, **changes})  # type: ignore[arg-type]
