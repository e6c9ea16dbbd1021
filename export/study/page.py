"""``study.html``, ``summary.md``, and the tables and figures beside them."""

from collections.abc import Sequence
from dataclasses import dataclass

from eigenfeatures.eigen.figures import figure_png
from eigenfeatures.eigen.files import write_bytes, write_text
from eigenfeatures.export.html import Cell, Section, Table, write_report
from eigenfeatures.export.steps import Talk
from eigenfeatures.export.study.parts import Part
from eigenfeatures.export.study.study_folder import StudyFolder
from eigenfeatures.export.tables import write_table


@dataclass(frozen=True)
class Chapter:
    """A question of the study, and what answers it."""

    title: str
    parts: Sequence[Part]

    @property
    def findings(self) -> list[str]:
        """All sentences."""
        return [sentence for part in self.parts for sentence in part.findings]


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
    sections: list[Section] = []
    for chapter in talk.track(chapters, "figures", len(chapters)):
        sections.append(
            Section(chapter.title, " ".join(chapter.findings) or "Nothing was measured for this.")
        )
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
    write_text(folder.summary, _markdown(title, facts, chapters, methods))
    write_report(folder.page, title=title, summary=facts, sections=sections)


def _markdown(
    title: str, facts: Sequence[tuple[str, Cell]], chapters: Sequence[Chapter], methods: str
) -> str:
    lines = [f"# {title}", "", *(f"- {label}: {value}" for label, value in facts), ""]
    for chapter in chapters:
        lines += [f"## {chapter.title}", ""]
        lines += [f"- {sentence}" for sentence in chapter.findings] or ["Nothing was measured for this."]
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
