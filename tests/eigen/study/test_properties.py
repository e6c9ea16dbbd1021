"""Tables of properties: what is read, and what is refused in one line."""

from pathlib import Path

import numpy as np
import pytest

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.study.properties import read_properties

PAPER = Path(__file__).parents[3] / "docs" / "paper_table1.csv"


def write(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding=encoding, newline="")
    return path


def test_the_papers_table_1():
    table = read_properties(PAPER, ("sample1", "sample2", "sample3", "sample4"))
    expected = {
        "polymerization rate [%]": [13.7, 45.9, 60.3, 90.0],
        "density [g/cm3]": [1.151, 1.157, 1.145, 1.143],
        "fracture toughness [MPa m^1/2]": [0.16, 1.03, 0.99, 0.83],
    }
    assert {name: values.tolist() for name, values in table.items()} == expected
    assert np.argmax(table["fracture toughness [MPa m^1/2]"]) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_separators_marks_and_blank_cells(tmp_path, encoding, separator, newline):
    lines = [["sample", "µ [1/cm]", "strain"], ["b", " 2.5 ", ""], [], ["a", "-1e3", "4"]]
    path = write(tmp_path, newline.join(separator.join(line) for line in lines), encoding)
    table = read_properties(path, ["a", "b"])
    assert list(table) == ["µ [1/cm]", "strain"]
    np.testing.assert_array_equal(table["µ [1/cm]"], [-1000, 2.5])
    np.testing.assert_array_equal(table["strain"], [4, np.nan])


def test_a_quoted_name_may_hold_the_separator(tmp_path):
    table = read_properties(write(tmp_path, 'sample,"strength, dry"\n"a,1",3\nb,4\n'), ["a,1", "b"])
    assert table["strength, dry"].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "isn't a table of properties"),
        ("sample,x\n", "isn't a table of properties"),
        ("sample\na\nb\n", "isn't a table of properties"),
        ("sample,x\na,1,2\nb,3\n", "isn't a table of properties"),
        ("sample;x\na;1,5\nb;2\n", r"'1,5' \(x of a\) isn't a finite number; write one with a decimal point"),
        ("sample,x\na,high\nb,2\n", r"'high' \(x of a\) isn't a finite number"),
        ("sample,x\na,1\nb,nan\n", r"'nan' \(x of b\) isn't a finite number"),
        ("sample,x\na,1\nb,inf\n", r"'inf' \(x of b\) isn't a finite number"),
        ("sample,x\na,1\nb,2\nc,3\n", "sample 'c' is unknown; name the samples as they are: a, b"),
        ("sample,x\na,1\n", "sample 'b' has no row"),
        ("sample,x\na,1\nb,2\na,3\n", "sample 'a' has two rows"),
        ("sample,x,x\na,1,2\nb,3,4\n", "a column is named 'x' 2 times"),
        ("sample,x,\na,1,2\nb,3,4\n", "a column has no name"),
    ],
)
def test_what_is_refused(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        read_properties(path, ["a", "b"])
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_files_that_are_no_text(tmp_path):
    for missing in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(InputError, match="no such file"):
            read_properties(missing, ["a", "b"])
    with pytest.raises(InputError, match="isn't text in UTF-8"):
        read_properties(write(tmp_path, "sample,x\na,1\nb,2\n", "utf-16"), ["a", "b"])
    with pytest.raises(InputError, match="isn't a CSV file"):
        read_properties(write(tmp_path, f"sample,x\na,{'1' * 200_000}\nb,2\n"), ["a", "b"])
