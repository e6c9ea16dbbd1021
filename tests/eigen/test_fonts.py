"""Names in scripts that matplotlib's own font lacks."""

import unicodedata
import warnings

import numpy as np
from matplotlib.text import Text

from eigenfeatures.eigen import figures
from eigenfeatures.eigen.figures import style

IMAGES = [np.eye(16), 1 - np.eye(16)]


def test_a_script_that_the_fonts_lack_needs_no_warning():
    figure = figures.typical_slices(IMAGES[:1], ["試料"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert figures.figure_png(figure).startswith(b"\x89PNG")


def test_east_asian_names_get_a_font_that_has_them(monkeypatch):
    """Also on ticks, as of the confusion matrix; other texts keep matplotlib's own, whatever is installed."""
    monkeypatch.setattr(style, "_further_fonts", lambda: ["Their Font"])
    figure = figures.typical_slices(IMAGES, ["試料", "sample"])
    figure.axes[0].set_xticks([3], ["한국어"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figures.figure_png(figure)
    fonts = {text.get_text(): text.get_fontfamily() for text in figure.findobj(Text)}
    assert fonts["試料"] == fonts["한국어"] == ["sans-serif", "Their Font"]
    assert fonts["sample"] == ["sans-serif"]


def test_names_in_pieces_are_drawn_as_whole_letters():
    """As a Mac stores them: Korean syllables by their parts, umlauts as two letters."""
    names = ["한국어", "Güte"]
    in_pieces = [unicodedata.normalize("NFD", name) for name in names]
    assert in_pieces != names
    figure = figures.typical_slices(IMAGES, in_pieces)
    assert {*names} <= {text.get_text() for text in figure.findobj(Text)}
    matrix = figures.confusion_matrix(np.eye(2, dtype=int), in_pieces)
    assert {*names} <= {label.get_text() for label in matrix.axes[0].get_xticklabels()}
