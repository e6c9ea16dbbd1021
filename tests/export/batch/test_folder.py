"""The folder of a job knows which blocks are done, and refuses any other job."""

import copy
import errno
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from folders import content

from eigenfeatures.eigen import files
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.batch.folder import check_writable, open_folder, writing

RECORD = {
    "model": {"sha256": "ab"},
    "settings": {"engine": "ort-cpu", "outputs": ("probabilities", "gap"), "every": 1},
    "plan": {"batch": 4, "block": 8},
    "stacks": {"a": {"path": "/data/a.tif", "files": {"stamp": "12"}, "shape": [3, 4, 5]}},
    "versions": {"numpy": "2"},
}


def arrays(number):
    return {"slice": np.arange(4) + number, "gap": np.full(4, number, np.float32)}


@pytest.fixture
def begun(tmp_path):
    """A job of which blocks 0 and 1 are done."""
    folder = open_folder(tmp_path / "out", RECORD, False)
    with folder:
        for number in (0, 1):
            folder.commit(number, arrays(number))
    return folder


def test_blocks_are_read_back_as_they_were(begun):
    again = open_folder(begun.path, RECORD, True)
    assert again.done == {0, 1}
    for name, array in arrays(1).items():
        np.testing.assert_array_equal(again.load(1)[name], array)


def test_a_block_has_the_same_bytes_every_time(begun, tmp_path):
    other = open_folder(tmp_path / "other", RECORD, False)
    other.commit(1, arrays(1))
    name = "blocks/00000001.npz"
    assert (begun.path / name).read_bytes() == (other.path / name).read_bytes()


@pytest.mark.parametrize("kept", range(1, 60))
def test_a_line_that_a_kill_cut_short_does_not_count(begun, kept):
    journal = begun.path / "journal.txt"
    first, second = journal.read_text().splitlines(keepends=True)
    journal.write_text(first + second[:kept])
    again = open_folder(begun.path, RECORD, True)
    assert again.done == {0}
    again.commit(1, arrays(1))
    assert journal.read_text() == first + second


def test_a_line_whose_end_alone_is_cut_counts_and_the_next_one_too(begun):
    journal = begun.path / "journal.txt"
    whole = journal.read_text()
    journal.write_text(whole.removesuffix("\n"))
    with open_folder(begun.path, RECORD, True) as again:
        assert again.done == {0, 1}
        assert journal.read_text() == whole
        again.commit(2, arrays(2))
    assert open_folder(begun.path, RECORD, True).done == {0, 1, 2}


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(b"half")])
def test_a_block_that_is_gone_or_damaged_is_done_again(begun, damage):
    damage(begun.path / "blocks" / "00000000.npz")
    assert open_folder(begun.path, RECORD, True).done == {1}


def test_a_journal_that_is_no_text_counts_for_nothing(begun):
    with (begun.path / "journal.txt").open("ab") as journal:
        journal.write(b"\xab\xff\0\n")
    assert open_folder(begun.path, RECORD, True).done == {0, 1}


def test_what_can_t_be_a_folder_is_said(tmp_path):
    with pytest.raises(InputError, match="can't be a folder"):
        open_folder(tmp_path / ("n" * 300), RECORD, False)


def test_a_name_may_be_as_long_as_names_can_be(tmp_path):
    out = tmp_path / ("n" * 255)
    check_writable(out)
    open_folder(out, RECORD, False).close()
    check_writable(out)
    assert [file.name for file in out.iterdir()] == ["infer.json"]
    assert list(tmp_path.iterdir()) == [out]


def test_a_trial_that_a_kill_left_behind_is_known_as_such(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    check_writable(tmp_path)
    (left,) = tmp_path.iterdir()
    assert files.is_leftover(left)


def test_what_a_kill_left_behind_is_removed(begun):
    left = [begun.path / name for name in (".infer.0123abcd.json", "blocks/.00000002.0123abcd.npz")]
    left.append(begun.path / "eigenfeatures" / ".a.ome.0123abcd.tif")
    (begun.path / "eigenfeatures" / "a.ome.zarr" / "0").mkdir(parents=True)
    left.append(begun.path / "eigenfeatures" / "a.ome.zarr" / "0" / f"zarr.{'0123' * 8}.partial")
    for file in left:
        file.write_bytes(b"half")
    open_folder(begun.path, RECORD, True)
    assert [file for file in left if file.exists()] == []


@pytest.mark.parametrize("resume", [False, True])
def test_a_kill_before_the_record_is_there_bars_nothing(resume, tmp_path):
    (tmp_path / ".infer.0123abcd.json").write_bytes(b"half")
    with open_folder(tmp_path, RECORD, resume):
        assert [file.name for file in tmp_path.iterdir()] == ["infer.json"]
    (tmp_path / "infer.json").rename(tmp_path / ".gitignore")
    with pytest.raises(InputError, match="is not empty"):
        open_folder(tmp_path, RECORD, resume)


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("resume", [False, True])
def test_of_two_jobs_that_begin_at_once_one_has_the_folder(resume, links, tmp_path, monkeypatch):
    """The second comes in when the first has found the folder empty and written its record."""
    settle, entered = files.settle, []

    def meanwhile(file):
        settle(file)
        if not entered:
            entered.append(None)
            entered[0] = open_folder(tmp_path / "out", {**RECORD, "plan": {"block": 1}}, resume)

    def refuse(*_):
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(files, "settle", meanwhile)
    if not links:
        monkeypatch.setattr(files.os, "link", refuse)
    with pytest.raises(InputError, match="out holds a job that began just now"):
        open_folder(tmp_path / "out", RECORD, resume)
    (second,) = entered
    assert second.record["plan"] == {"block": 1}
    with pytest.raises(InputError, match="out belongs to a job that is at work"):
        open_folder(tmp_path / "out", RECORD, True)
    second.close()
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["infer.json"]


def test_files_of_others_are_kept(begun):
    others = [begun.path / name for name in (".gitignore", ".idea/workspace.xml", "notes.partial")]
    for file in others:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    open_folder(begun.path, RECORD, True).close()
    assert [file.read_text() for file in others] == ["mine"] * 3


def test_a_folder_has_one_job_at_a_time(begun):
    """A second one would remove what the first is writing."""
    with open_folder(begun.path, RECORD, True):
        (begun.path / ".infer.0123abcd.json").write_bytes(b"half")
        with pytest.raises(InputError, match="out belongs to a job that is at work; wait for its end"):
            open_folder(begun.path, RECORD, True)
        assert (begun.path / ".infer.0123abcd.json").exists()
    with open_folder(begun.path, RECORD, True) as folder:
        assert folder.done == {0, 1}


def test_a_resumed_job_keeps_its_plan(begun):
    other = {**RECORD, "plan": {"batch": 1, "block": 1}, "versions": {"numpy": "3"}}
    assert open_folder(begun.path, other, True).record["plan"] == RECORD["plan"]


DIFFERENT = {
    "model": (("model", "sha256"), "from another model \\(sha256 differs\\)"),
    "setting": (("settings", "every"), "with every = 1, and now it is other"),
    "stack": (
        ("stacks", "a", "files", "stamp"),
        "from another stack \\(the files of a were changed",
    ),
    "one stack more": (("stacks", "b"), "from another stack \\(b differs\\)"),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_another_job_is_refused_with_what_differs(what, begun):
    (*path, last), reason = DIFFERENT[what]
    record = copy.deepcopy(RECORD)
    part = record
    for name in path:
        part = part[name]
    part[last] = "other"
    before = content(begun.path)
    with pytest.raises(InputError, match=reason):
        open_folder(begun.path, record, True)
    assert content(begun.path) == before


def test_a_job_is_not_begun_anew_over_another(begun, tmp_path):
    with pytest.raises(InputError, match="out holds a job; add --resume"):
        open_folder(begun.path, RECORD, False)
    (tmp_path / "notes.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(InputError, match="is not empty; choose another folder"):
            open_folder(tmp_path, RECORD, resume)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 9}', "no JSON"])
def test_a_record_that_is_none_is_refused(text, tmp_path):
    (tmp_path / "infer.json").write_text(text)
    with pytest.raises(InputError, match=r"infer\.json (is not the record|has format 9)"):
        open_folder(tmp_path, RECORD, True)


def test_resuming_where_nothing_is_begins(tmp_path):
    assert open_folder(tmp_path / "new", RECORD, True).done == frozenset()


@pytest.mark.parametrize(
    ("code", "reason"),
    [(errno.ENOSPC, "no space is left.*--resume"), (errno.EACCES, "can't be written .*denied")],
)
def test_a_full_or_closed_disk_is_one_line_and_the_block_not_done(code, reason, begun):
    def refuse(*_, **__):
        raise OSError(code, "Permission denied")

    with mock.patch.object(np, "savez", refuse), pytest.raises(InputError, match=reason):
        begun.commit(2, arrays(2))
    assert begun.done == {0, 1}
    assert [file.name for file in (begun.path / "blocks").iterdir() if file.name.startswith(".")] == []
    assert open_folder(begun.path, RECORD, True).done == {0, 1}


def test_a_folder_in_a_file_can_t_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="can't be written"), writing(tmp_path / "file"):
        Path(tmp_path / "file" / "below").mkdir()


def test_a_full_disk_is_told_as_such_also_by_numpy_s_writer(tmp_path):
    """By which tifffile writes; its error has no number."""
    with (
        Path("/dev/full").open("wb") as full,
        pytest.raises(InputError, match="no space is left; free some and go on with --resume"),
        writing(tmp_path),
    ):
        np.zeros(2**16).tofile(full)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            FileNotFoundError(errno.ENOENT, "No such file"),
            " can't be written; choose another folder for --out",
        ),
        (OSError(errno.EROFS, "Read-only file system"), " can't be written; choose another folder for --out"),
        (OSError(errno.ENOSPC, "No space left"), ": no space is left; free some, or use another --out"),
    ],
)
def test_a_folder_that_no_file_can_be_made_in_is_refused(error, reason, tmp_path, monkeypatch):
    """Whatever its permissions say."""
    check_writable(tmp_path / "deep" / "out")
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(InputError, match=f"^{tmp_path}{reason}$"):
        check_writable(tmp_path / "deep" / "out")
