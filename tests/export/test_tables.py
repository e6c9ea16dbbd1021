"""Tables keep their numbers, and the same numbers are the same bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.tables import numbers, read_table, write_table


@settings(max_examples=50, deadline=None, derandomize=True)
@given(values=st.lists(st.floats(width=32, allow_nan=True, allow_infinity=False), min_size=1, max_size=9))
def test_float32_comes_back_exactly(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    column = np.array(values, np.float32)
    write_table(path, {"x": column})
    np.testing.assert_array_equal(numbers(read_table(path)["x"]).astype(np.float32), column)


def test_text_with_commas_and_line_ends_survives(tmp_path):
    names = ['a,"b"', "two\nlines", "ü"]
    write_table(tmp_path / "t.csv", {"name": names, "empty": [None, "", np.nan]})
    assert read_table(tmp_path / "t.csv") == {"name": names, "empty": ["", "", ""]}


def test_columns_of_different_lengths_are_an_error_and_leave_the_file(tmp_path):
    path = tmp_path / "t.csv"
    write_table(path, {"a": [1, 2]})
    with pytest.raises(ValueError, match="shorter"):
        write_table(path, {"a": [1, 2], "b": [1]})
    assert path.read_text() == "a\n1\n2\n"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_and_broken_tables_are_refused(tmp_path):
    with pytest.raises(InputError, match="is missing; run the step that writes it first"):
        read_table(tmp_path / "absent.csv")
    for text in ("", "a,b\n1\n"):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(InputError, match="is not a table of this project"):
            read_table(tmp_path / "t.csv")
