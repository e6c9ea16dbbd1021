"""The report is one file that needs nothing else, and shows texts as they are."""

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from eigenfeatures.eigen.figures import CAPTIONS, figure_png, typical_slices
from eigenfeatures.export.html import Section, Table, write_report

HOSTILE = "<script>alert('x')</script> & \"quoted\" {{ 7 * 7 }}"
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Collects what a page holds, and checks that its elements close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and data.strip():
            self.words.append((self._open[-1], data.strip()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str) -> list[str]:
        return [data for name, data in self.words if name == tag]


def png(samples: int = 2) -> bytes:
    images = np.random.default_rng(3).random((samples, 12, 16))
    return figure_png(typical_slices(images, [f"S{k}" for k in range(samples)]))


def write(path: Path, **changes: object) -> Page:
    arguments = {
        "title": "Eigenfeatures of a and b",
        "summary": [("accuracy", 0.98765), ("slices", 512)],
        "sections": [
            Section(*CAPTIONS["typical_slices"], figure=png()),
            Section(
                *CAPTIONS["class_metrics"],
                table=Table(["sample", "precision", "slices"], [["a", 0.123456, 38], ["b", "–", 40]]),
            ),
        ],
    }
    write_report(path, **(arguments | changes))
    return Page(path.read_text(encoding="utf-8"))


def test_holds_what_it_was_given(tmp_path: Path) -> None:
    page = write(tmp_path / "report.html")
    assert page.text("h1") == page.text("title") == ["Eigenfeatures of a and b"]
    assert page.text("h2") == [CAPTIONS["typical_slices"].title, CAPTIONS["class_metrics"].title]
    assert page.text("p") == [CAPTIONS["typical_slices"].text, CAPTIONS["class_metrics"].text]
    assert list(zip(page.text("dt"), page.text("dd"), strict=True)) == [
        ("accuracy", "0.9877"),
        ("slices", "512"),
    ]
    assert page.text("th") == ["sample", "precision", "slices", "a", "b"]
    assert page.text("td") == ["0.1235", "38", "–", "40"]
    assert [cell["scope"] for cell in page.all("th")] == ["col", "col", "col", "row", "row"]


def test_points_are_a_list_below_the_text(tmp_path: Path) -> None:
    sections = [
        Section("Both", "Text.", png(), points=["u₁ is stable.", HOSTILE]),
        Section("Points alone", "", points=("α isn't.",)),
        Section("Text alone", "More text."),
    ]
    page = write(tmp_path / "report.html", sections=sections)
    assert page.text("li") == ["u₁ is stable.", HOSTILE, "α isn't."]
    assert not page.all("script")
    assert page.text("p") == ["Text.", "More text."]
    # No list without points, and no paragraph without text.
    content = [tag for tag, _ in page.elements if tag in {"section", "p", "ul", "li", "figure"}]
    assert content[content.index("section") :] == [
        *("section", "p", "ul", "li", "li", "figure"),
        *("section", "ul", "li"),
        *("section", "p"),
    ]


def test_figures_are_inside_and_unchanged(tmp_path: Path) -> None:
    drawn = [png(2), png(5)]
    sections = [Section(f"figure {k}", "Text.", figure) for k, figure in enumerate(drawn)]
    page = write(tmp_path / "report.html", sections=sections)
    images = page.all("img")
    assert [image["alt"] for image in images] == ["figure 0", "figure 1"]
    for image, expected in zip(images, drawn, strict=True):
        prefix, _, data = str(image["src"]).partition(",")
        assert prefix == "data:image/png;base64"
        found = base64.b64decode(data, validate=True)
        assert found == expected
        Image.open(io.BytesIO(found)).verify()


def test_nothing_is_fetched_and_nothing_runs(tmp_path: Path) -> None:
    page = write(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not page.all("script")
    assert not page.all("link")
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert "@import" not in text
    for _, attributes in page.elements:
        assert str(attributes.get("src", "data:")).startswith("data:")
        assert str(attributes.get("href", "#")).startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    policies = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_links_of_the_contents_lead_to_the_sections(tmp_path: Path) -> None:
    page = write(tmp_path / "report.html")
    assert [link["href"] for link in page.all("a")] == [
        f"#{section['id']}" for section in page.all("section")
    ]


def test_hostile_texts_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    page = write(
        tmp_path / "report.html",
        title=HOSTILE,
        summary=[(HOSTILE, HOSTILE)],
        sections=[Section(HOSTILE, HOSTILE, png(), Table([HOSTILE, "b"], [[HOSTILE, HOSTILE]]))],
    )
    assert not page.all("script")
    for tag in ("title", "h1", "dt", "dd", "a", "h2", "p", "td"):
        assert page.text(tag) == [HOSTILE], tag
    assert page.text("th") == [HOSTILE, "b", HOSTILE]
    assert page.all("img")[0]["alt"] == HOSTILE


def test_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a.html")
    write(tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_report_that_fails_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    write(path)
    before = path.read_bytes()

    def full_disk(*_: object) -> int:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_disk)
        with pytest.raises(OSError, match="no space"):
            write(path, title="another")
    with pytest.raises(UndefinedError):
        write(path, sections=["not a section"])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
