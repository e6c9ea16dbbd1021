"""The folder of a study: which files it holds."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StudyFolder:
    """Paths of a study."""

    path: Path

    @property
    def record(self) -> Path:
        """``study.toml``: what was asked for, and with which versions."""
        return self.path / "study.toml"

    @property
    def runs(self) -> Path:
        """The folder of all runs, each as `eigenfeatures train` leaves it."""
        return self.path / "runs"

    @property
    def measured(self) -> Path:
        """The folder of measurements, kept for a study that goes on."""
        return self.path / "measured"

    @property
    def figures(self) -> Path:
        """The folder of figures."""
        return self.path / "figures"

    @property
    def tables(self) -> Path:
        """The folder of CSV tables."""
        return self.path / "tables"

    @property
    def page(self) -> Path:
        """``study.html``."""
        return self.path / "study.html"

    @property
    def summary(self) -> Path:
        """``summary.md``."""
        return self.path / "summary.md"
