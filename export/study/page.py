"""``study.html``, ``summary.md``, and the tables and figures beside them."""

from collections.abc import Sequence
from dataclasses import dataclass

from eigenfeatures.eigen.figures import figure_png
from eigenfeatures.eigen.files import write_bytes, write_text
from eigenfeatures.export.html import Cell, Section, Table, write_report
from eigenfeatures.export.study.parts import Part
from eigenfeatures.export.study.study_folder import StudyFolder
from eigenfeatures.export.tables import write_table
from eigenfeatures.export.talk import Talk

GLOSSARY = (
    "The eigenfeature u₁ is the one image that best sums up all response maps of a layer on a slice; α is the"
    " single response map with the brightest pixel. A run is one training from one random start, the seed;"
    " relu2 is the layer after the second convolution. |∇Y| is the gradient magnitude of the slice, which the"
    " networks are given. A correlation of 1 means the same image, 0 nothing in common; brackets hold 95 %"
    " intervals over seeds and blocks of slices."
)
_NOTHING = "Nothing was measured for this."


@dataclass(frozen=True)
class Chapter:
    """A question of the study, and what answers it."""

    title: str
    parts: Sequence[Part]

    @property
    def answers(self) -> list[str]:
        """The sentences for a reader in a hurry."""
        return [part.answer for part in self.parts if part.answer]

    @property
    def findings(self) -> list[str]:
        """All sentences, each part's answer first."""
        return [
            sentence
            for part in self.parts
            for sentence in dict.fromkeys([*([part.answer] if part.answer else []), *part.findings])
        ]


def write_study(
    folder: StudyFolder,
    title: str,
    facts: Sequence[tuple[str, Cell]],
    chapters: Sequence[Chapter],
    methods: str,
    talk: Talk,
) -> None:
    """Write the page, the summary, the tables and the figures.

    Parameters
    ----------
    folder
        Where to write.
    title
        Of the page.
    facts
        Label and value of the main facts, on top.
    chapters
        In the order of reading.
    methods
        How all was made, for a supplement.
    talk
        Shows progress.
    """
    short = [answer for chapter in chapters for answer in chapter.answers]
    sections: list[Section] = [Section("In short", GLOSSARY, points=short)]
    for chapter in talk.track(chapters, "figures", len(chapters)):
        sections.append(Section(chapter.title, "" if chapter.findings else _NOTHING, points=chapter.findings))
        for part in chapter.parts:
            for name, columns in part.tables.items():
                write_table(folder.tables / f"{name}.csv", columns)
            for exhibit in part.exhibits:
                png = None
                if exhibit.figure is not None:
                    png = figure_png(exhibit.figure)
                    write_bytes(folder.figures / f"{exhibit.name}.png", png)
                sections.append(Section(exhibit.title, exhibit.text, png, exhibit.table))
    sections.append(Section("Methods", methods))
    _remove_others(folder, chapters)
    write_text(folder.summary, _markdown(title, facts, chapters, methods))
    write_report(folder.page, title=title, summary=facts, sections=sections)


def _remove_others(folder: StudyFolder, chapters: Sequence[Chapter]) -> None:
    """Remove tables and figures of an earlier, larger plan: they would be taken for this study's."""
    parts = [part for chapter in chapters for part in chapter.parts]
    tables = {f"{name}.csv" for part in parts for name in part.tables}
    figures = {f"{exhibit.name}.png" for part in parts for exhibit in part.exhibits}
    for files, kept in ((folder.tables.glob("*.csv"), tables), (folder.figures.glob("*.png"), figures)):
        for file in files:
            if file.name not in kept:
                file.unlink()


def _markdown(
    title: str, facts: Sequence[tuple[str, Cell]], chapters: Sequence[Chapter], methods: str
) -> str:
    lines = [f"# {title}", "", *(f"- {label}: {value}" for label, value in facts), "", "## In short", ""]
    lines += [GLOSSARY, "", *(f"- {answer}" for chapter in chapters for answer in chapter.answers), ""]
    for chapter in chapters:
        lines += [f"## {chapter.title}", ""]
        lines += [f"- {sentence}" for sentence in chapter.findings] or [_NOTHING]
        lines.append("")
        for part in chapter.parts:
            for exhibit in part.exhibits:
                lines += [f"**{exhibit.title}** {exhibit.text}", ""]
                if exhibit.figure is not None:
                    lines += [f"![{exhibit.title}](figures/{exhibit.name}.png)", ""]
                if exhibit.table is not None:
                    lines += [*_table(exhibit.table), ""]
    return "\n".join([*lines, "## Methods", "", methods, ""])


def _table(table: Table) -> list[str]:
    rows = [table.header, ["---"] * len(table.header), *table.rows]
    return [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]


def _cell(cell: Cell) -> str:
    text = f"{cell:.4g}" if isinstance(cell, float) else str(cell)
    return text.replace("|", "\\|")
