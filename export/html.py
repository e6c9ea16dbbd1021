"""One self-contained HTML file from texts, tables and PNG figures."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from eigenfeatures.eigen.files import write_text

Cell = str | int | float


@dataclass(frozen=True)
class Table:
    """A table whose first column heads its rows.

    Attributes
    ----------
    header : sequence of str
        Title of each column.
    rows : sequence of sequence of str, int or float
        As long as the header each; floats are shown with four significant digits.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Section:
    """A part of the report under its own heading.

    Attributes
    ----------
    title : str
        The heading, and the alternative text of the figure.
    text : str
        What a reader sees, in plain text.
    figure : bytes or None
        A PNG.
    table : Table or None
        Below the figure.
    points : sequence of str
        A list below the text.
    """

    title: str
    text: str
    figure: bytes | None = None
    table: Table | None = None
    points: Sequence[str] = ()


def write_report(
    path: Path, *, title: str, summary: Sequence[tuple[str, Cell]], sections: Sequence[Section]
) -> None:
    """Write a report that needs no network and no other file, whole or not at all.

    Parameters
    ----------
    path
        The HTML file to write.
    title
        Of the page.
    summary
        Label and value of the main results, shown on top.
    sections
        In the order of reading. All texts are escaped.

    Raises
    ------
    OSError
        When `path` can't be written; it is then as it was.
    """
    template = resources.files("eigenfeatures.export").joinpath("report.html.j2").read_text("utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["data_uri"] = _data_uri
    environment.filters["cell"] = _cell
    page = environment.from_string(template).render(title=title, summary=summary, sections=sections)
    write_text(path, page)


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _cell(value: Cell) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
