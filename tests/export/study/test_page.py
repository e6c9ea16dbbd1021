"""``study.html`` needs nothing else and answers in order; ``summary.md`` is Markdown; figures fit a page."""

import base64
import re
import tomllib
from html.parser import HTMLParser
from itertools import pairwise
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pytest
import studies

from eigenfeatures.eigen.study.similarity import MEASURES
from eigenfeatures.export.study import methods
from eigenfeatures.export.study.plan import make_plan

CHAPTERS = [
    "In short",
    "Are the features stable?",
    "Are they the network's, or the image's?",
    "What do they look like per sample?",
    "Which settings are the best?",
    "Do they tell the samples apart by themselves?",
    "How do the samples rank?",
    "Which runs count, and what does a random split leak?",
    "Methods",
]
# Those that are asked for by name, of all.
FIGURES = {
    *("similarity_violins", "similarity_matrix_u1", "similarity_matrix_alpha", "subspaces", "agreement"),
    *(
        f"{what}_{network}"
        for what in ("seeds_eigenfeatures", "seeds_strongest_channels", "training_curve")
        for network in studies.PRESETS
    ),
    *(
        *(f"settings_compared_{name}" for name in ("small", "reduced", "small_by_operator")),
        "side_claims",
        "discrimination",
        "order",
        "leakage",
        "gradient_image",
    ),
}


class Page(HTMLParser):
    """Tags with their attributes, and the text of each heading, paragraph and point of a list, of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.text, self._open = [], [], "", None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("h1", "h2", "p", "li"):
            self._open = tag
            self.texts.append([tag, ""])

    def handle_endtag(self, tag):
        if tag == self._open:
            self._open = None

    def handle_data(self, data):
        self.text += data
        if self._open:
            self.texts[-1][1] += data


@pytest.fixture(scope="module")
def page(finished):
    return Page((finished.folder / "study.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def summary(finished):
    return (finished.folder / "summary.md").read_text(encoding="utf-8")


def sections(page):
    """Heading of each section to its paragraphs and the points of its list."""
    found, here = {}, None
    for tag, text in page.texts:
        if tag == "h2":
            here = found.setdefault(text, ([], []))
        elif here is not None:
            here[tag == "li"].append(text)
    return found


def chapters(page):
    """Heading of each section to all that it says."""
    return {title: " ".join([*paragraphs, *points]) for title, (paragraphs, points) in sections(page).items()}


def test_the_page_needs_no_other_file_and_runs_nothing(page):
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form"}
    anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "img":
            assert attributes["src"].startswith("data:image/png;base64,")
            assert attributes["alt"]
        if "href" in attributes:
            assert attributes["href"].removeprefix("#") in anchors
        assert not [value for value in attributes.values() if value and "//" in value.partition("base64,")[0]]


def test_the_page_answers_in_the_order_in_which_a_reader_asks(page):
    titles = list(chapters(page))
    places = [titles.index(title) for title in CHAPTERS]
    assert places == sorted(places)
    assert places[0] == 0
    assert places[-1] == len(titles) - 1


def test_the_sentences_of_a_chapter_give_the_numbers_of_its_tables(page, finished):
    found = chapters(page)
    stable = studies.estimates(finished.folder, "similarity")
    nulls = studies.estimates(finished.folder, "nulls")
    for name in studies.PRESETS:
        trained, null = stable[name, "u1/pearson"], nulls[f"{name}, untrained", "u1/pearson"]
        for title, mean in ((CHAPTERS[1], trained), (CHAPTERS[2], trained), (CHAPTERS[2], null)):
            assert re.search(rf"\b{name}: .*\b{mean:.2f} \[", found[title]), (title, name, mean)
        assert f"{name}: u₁ is the most stable" in found[CHAPTERS[4]]
        assert f"u₁ of {name}" in found[CHAPTERS[5]]
    splits = studies.table(finished.folder, "splits")
    random = splits["accuracy"][splits["split"] == "random"]
    assert re.search(rf"\b{random.mean():.3f} by a random split", found[CHAPTERS[7]])


def test_the_page_begins_with_the_answers_in_short(page, summary):
    answers = summary.partition("## In short\n")[2].partition("\n## ")[0]
    lines = [line.removeprefix("- ") for line in answers.splitlines() if line.startswith("- ")]
    assert len(lines) >= 5
    for line in lines:
        assert line in page.text
        assert summary.count(f"- {line}\n") == 2, "in short, and in its chapter"


def test_the_methods_are_those_of_the_settings(page):
    text = chapters(page)["Methods"]
    for words in (
        f"{3 * studies.SLICES} slices of {studies.SIZE} × {studies.SIZE} pixels from 3 samples",
        "magnitude of their gradient (sobel), standardised by slice",
        "a contiguous 30 % of each stack",
        "learning rate 0.02, L2 0.1, augmentation 'flips'",
        "small 2 times (15 iterations of 32 slices), reduced 2 times (15 iterations of 32 slices)",
        "response maps at relu2 (pooled, not centred)",
        "none was stopped early",
        "logistic regression",
        "Kendall's τ with a two-sided p over all permutations",
    ):
        assert words in text


def test_the_methods_tell_of_every_further_plan_and_of_the_precision(page, finished):
    text = chapters(page)["Methods"]
    record = tomllib.loads(
        (finished.folder / "runs" / "small-seed0" / "run.toml").read_text(encoding="utf-8")
    )
    assert f"computed in {record['device']['training_precision']} on cpu" in text
    for words in (
        "small was trained 2 times with the labels of the training slices permuted",
        "small was trained 2 times with validation slices that were 30 % of the slices of each sample",
        "small was trained 2 times with each of: forward gradient, prewitt gradient, scharr gradient",
        "each of: augmentation: none, batches of 64, standardised by dataset",
    ):
        assert words in text


def test_the_methods_tell_of_no_plan_that_is_not_there():
    plan = make_plan(studies.BASE, studies.PRESETS, studies.SEEDS, ["claims"], "small", studies.SEEDS)
    (sentence,) = methods._further_plans(SimpleNamespace(plan=plan))
    assert sentence.startswith("To test side claims, small was trained 2 times")


def test_every_figure_is_a_png_that_fits_the_page(finished, page):
    files = {path.stem: path for path in (finished.folder / "figures").iterdir()}
    assert files.keys() >= FIGURES
    assert [name for name in files if name.startswith("null_models")]
    for path in files.values():
        data = path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        image = matplotlib.image.imread(path)
        assert image.shape[1] <= 1100, path.name
        assert np.ptp(image[..., :3]) > 0.5, f"{path.name} is blank"
    embedded = {attributes["src"].partition(",")[2] for tag, attributes in page.tags if tag == "img"}
    assert {base64.b64decode(text) for text in embedded} == {path.read_bytes() for path in files.values()}


def test_the_summary_is_markdown_whose_tables_are_tables(summary):
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    tokens = markdown.parse(summary)
    headings = [tokens[k + 1].content for k, token in enumerate(tokens) if token.type == "heading_open"]
    assert headings[1:] == CHAPTERS
    rows, tables = [], []
    for token, following in pairwise(tokens):
        if token.type == "table_open":
            rows = []
            tables.append(rows)
        elif token.type == "tr_open":
            rows.append([])
        elif token.type in ("th_open", "td_open"):
            rows[-1].append(following.content)
    assert len(tables) == len(re.findall(r"^\| --- \|", summary, re.MULTILINE)) >= 5
    for table in tables:
        assert len(table) > 1
        assert all(row[0] for row in table)
        assert {len(row) for row in table} == {len(table[0])}
    paragraphs = [token.content for token in tokens if token.type == "inline"]
    assert not [text for text in paragraphs if re.match(r"\|.*\|.*\|", text)], "a table that is none"


def test_the_summary_holds_what_the_page_says(summary, page, finished):
    found = chapters(page)
    for title in CHAPTERS[1:-1]:
        lines = summary.partition(f"## {title}\n")[2].partition("\n## ")[0].splitlines()
        sentences = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
        # A point of a list each: as one paragraph nobody would read them.
        assert sections(page)[title] == ([], sentences)
    assert found["Methods"] in summary
    linked = set(re.findall(r"\]\((figures/[^)]+)\)", summary))
    assert linked == {f"figures/{path.name}" for path in (finished.folder / "figures").iterdir()}


def test_numbers_of_the_summary_are_those_of_the_tables(summary, finished):
    runs = studies.table(finished.folder, "runs")
    for name, accuracy in zip(runs["run"], runs["validation_accuracy"], strict=True):
        (shown,) = re.findall(rf"^\| {name} \|.*\| ([\d.]+) \| [^|]+ \|$", summary, re.MULTILINE)
        assert float(shown) == pytest.approx(accuracy, abs=6e-4)
    means = studies.estimates(finished.folder, "similarity")
    for group in ("small", "reduced", "small × reduced"):
        (row,) = re.findall(rf"^\| {group}, u₁ \| (.*) \|$", summary, re.MULTILINE)
        cells = [cell.split()[0] for cell in row.split(" | ")]
        assert cells[: len(MEASURES)] == [f"{means[group, f'u1/{measure}']:.2f}" for measure in MEASURES]
