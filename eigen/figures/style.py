"""The look that all figures share: page size, fonts, colours of the samples, and the bytes of a PNG."""

import io
import unicodedata
import warnings
from functools import cache
from textwrap import fill
from typing import Literal

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

# 10 inches at 110 dots an inch: 1100 pixels, the width of the report's page.
PAGE_WIDTH = 10.0
DPI = 110
TITLE_SIZE = 12
LABEL_SIZE = 10
TICK_SIZE = 9

# Okabe and Ito, "Color universal design" (2008), without the yellow, which is too pale for lines on white.
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000")
ORANGE = OKABE_ITO[1]
# Of curves or kinds of rows that are told apart in one figure: neighbours differ most.
SERIES_COLOURS = tuple(OKABE_ITO[place] for place in (0, 3, 2, 5, 4, 1))
SERIES_MARKERS = "osD^vP"
LINE_STYLES = ("solid", "dashed")

# Chinese, Japanese and Korean letters, which matplotlib's own font lacks, and fonts that have some of them.
_FIRST_EAST_ASIAN = "\u2e80"
_FURTHER_FONTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans JP",
    "Noto Sans SC",
    "Noto Sans KR",
    "Source Han Sans",
    "IPAexGothic",
    "IPAGothic",
    "TakaoPGothic",
    "VL PGothic",
    "Droid Sans Fallback",
    "WenQuanYi Zen Hei",
    "Hiragino Sans",
    "PingFang SC",
    "Apple SD Gothic Neo",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Arial Unicode MS",
)

_LONGEST_NAME = 28
# Characters of a title that fit into an inch.
_TITLE_DENSITY = 12


def new_figure(title: str, height: float, width: float = PAGE_WIDTH, compressed: bool = False) -> Figure:
    """Make an empty white figure; lengths are in inches, and `compressed` suits panels of a fixed shape."""
    layout: Literal["compressed", "constrained"] = "compressed" if compressed else "constrained"
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")
    figure.suptitle(fill(title, int(_TITLE_DENSITY * width)), fontsize=TITLE_SIZE)
    return figure


def figure_png(figure: Figure) -> bytes:
    """Render a figure to PNG.

    Parameters
    ----------
    figure
        Any of this package.

    Returns
    -------
    bytes
        At most 1100 pixels wide and without metadata, so that equal figures give equal bytes.
    """
    png = io.BytesIO()
    for text in figure.findobj(Text):
        if any(letter >= _FIRST_EAST_ASIAN for letter in text.get_text()):
            text.set_fontfamily([*text.get_fontfamily(), *_further_fonts()])
    with warnings.catch_warnings():
        # A name in a script that all of them lack is drawn as boxes; tables have it as it is.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    return png.getvalue()


@cache
def _further_fonts() -> list[str]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in _FURTHER_FONTS if name in installed]


def sample_style(index: int) -> tuple[str, str]:
    """Give the colour and the line style of a sample; they tell 14 samples apart."""
    rounds, colour = divmod(index, len(OKABE_ITO))
    return OKABE_ITO[colour], LINE_STYLES[rounds % len(LINE_STYLES)]


def decimal(value: float) -> str:
    """Write a number to two places, with a minus sign as wide as a plus and none before zero."""
    return f"{value:z.2f}".replace("-", "−")


def short_name(name: str, longest: int = _LONGEST_NAME) -> str:
    """Cut the middle out of a name that is too long, and keep ``$`` from starting a formula.

    Letters that come in pieces, as in names of files from a Mac, are put together: fonts have no pictures of
    the pieces.
    """
    name = unicodedata.normalize("NFC", name)
    if len(name) > longest:
        half = (longest - 1) // 2
        name = f"{name[:half]}…{name[-half:]}"
    return name.replace("$", r"\$")
