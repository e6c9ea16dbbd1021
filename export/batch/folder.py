"""The folder of a job: what it was made from, and the blocks that are done.

``infer.json`` says what the job is. Each finished block is one file in ``blocks/``, which
appears whole, and then one line in ``journal.txt``: a block without its line is done again.
Each is on the disk before the next is begun, so that a crash of the machine loses no more than a kill.
While a job works, its process holds a lock on ``infer.json``.
"""

import json
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.closing import Closing
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.files import atomic_path, remove_leftovers, settle, sha256, write_text
from eigenfeatures.export.run_folder import check_empty
from eigenfeatures.export.run_lock import lock
from eigenfeatures.export.system_errors import is_full_disk

RECORD_FILE = "infer.json"

_FORMAT = 1

# How zarr names what it is writing.
_PARTIAL = re.compile(r".+\.[0-9a-f]{32}\.partial")


class JobFolder(Closing):
    """Where the results of a job are, as far as it has come; no other process can open it meanwhile.

    Parameters
    ----------
    path
        The folder, which `open_folder` has made.
    record
        What ``infer.json`` holds.
    lock
        Released by closing.
    """

    def __init__(self, path: Path, record: Mapping[str, Any], lock: ExitStack) -> None:
        self.path, self.record, self._lock = path, record, lock
        self._done = self._read_journal()

    def close(self) -> None:
        """Let another job have the folder."""
        self._lock.close()

    @property
    def table(self) -> Path:
        """``slices.csv``: there when the job is finished."""
        return self.path / "slices.csv"

    @property
    def done(self) -> frozenset[int]:
        """The numbers of the blocks that are done."""
        return frozenset(self._done)

    def commit(self, number: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write a block and note in the journal that it is done."""
        self.note(number, write_block(self.path, number, arrays))

    def note(self, number: int, digest: str) -> None:
        """Note in the journal that a block is done, whose file has this SHA-256."""
        with writing(self.path):
            with self._journal.open("a", encoding="ascii") as journal:
                journal.write(f"{number} {digest}\n")
            settle(self._journal)
        self._done.add(number)

    def load(self, number: int) -> dict[str, NDArray[Any]]:
        """Read a block back."""
        with np.load(_block(self.path, number), allow_pickle=False) as block:
            return dict(block)

    def finish(self) -> None:
        """Remove what only an unfinished job needs, once ``slices.csv`` is there."""
        shutil.rmtree(self.path / "blocks", ignore_errors=True)
        self._journal.unlink(missing_ok=True)

    @property
    def _journal(self) -> Path:
        return self.path / "journal.txt"

    def _read_journal(self) -> set[int]:
        """Return the blocks that are there as the journal says; make good what a kill cut short."""
        text = self._journal.read_text("ascii", errors="replace") if self._journal.is_file() else ""
        kept = [line for line in text.splitlines() if self._is_there(line)]
        # Also where the end of the last line is all that is missing: the next one would be added to it.
        if (whole := "".join(f"{line}\n" for line in kept)) != text:
            with writing(self.path):
                write_text(self._journal, whole)
        return {int(line.split()[0]) for line in kept}

    def _is_there(self, line: str) -> bool:
        number, _, digest = line.partition(" ")
        if not number.isdigit():
            return False
        file = _block(self.path, int(number))
        return file.is_file() and sha256(file) == digest


def write_block(path: Path, number: int, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Write a block into a job's folder and return the SHA-256 of its file; the journal is not touched."""
    file = _block(path, number)
    with writing(path):
        with atomic_path(file) as temporary, temporary.open("xb") as stream:
            np.savez(stream, **dict(arrays))  # type: ignore[arg-type]
        return sha256(file)


def open_folder(path: Path, record: Mapping[str, Any], resume: bool) -> JobFolder:
    """Make the folder of a job, or go on with the one that is there.

    Parameters
    ----------
    path
        The folder.
    record
        What the job is: sections of names and values that JSON holds. Those of ``plan``, ``machine`` and
        ``versions`` are taken from the folder when it is resumed.
    resume
        Whether a folder that holds this very job may be used.

    Returns
    -------
    JobFolder
        To be closed by the caller.

    Raises
    ------
    InputError
        When it holds anything else, a job whose model, stacks or settings differ, or one that is at work.
    """
    before = read_record(path) if resume else None
    if before is None:
        check_vacant(path)
        record = {"format": _FORMAT, **record}
        with writing(path):
            _write_record(path, record)
    else:
        _check_same(path, before, record)
        record = before
    lock = _lock(path)
    try:
        _remove_leftovers(path)
        return JobFolder(path, record, lock)
    except BaseException:
        lock.close()
        raise


def _write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Begin a job; of several that begin at once in one folder, one does.

    The record is never replaced, so that all who lock it lock the same file.
    """
    try:
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        write_text(path / RECORD_FILE, text, new=True)
    except FileExistsError as error:
        raise InputError(f"{path} holds a job that began just now; choose another --out") from error


def read_record(path: Path) -> dict[str, Any] | None:
    """Return what ``infer.json`` in a folder holds, None where there is none."""
    file = path / RECORD_FILE
    if not file.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if record["format"] != _FORMAT:
            raise InputError(f"{file} has format {record['format']}, and this version reads {_FORMAT}")
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} is not the record of a job; choose another folder for --out") from error
    return record


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full disk and an unwritable folder into one line.

    Raises
    ------
    InputError
        What is written counts as not done.
    """
    try:
        yield
    except OSError as error:
        if is_full_disk(error):
            raise InputError(
                f"{path}: no space is left; free some and go on with --resume, or use another --out"
            ) from error
        raise InputError(f"{path} can't be written ({error.strerror or error}); check the folder") from error


def check_vacant(path: Path) -> None:
    """Raise `InputError` unless a folder is empty, but for what killed jobs left, or not there yet."""
    try:
        taken = (path / RECORD_FILE).is_file()
    except OSError as error:  # such as a name that is too long
        raise InputError(f"--out {path} can't be a folder ({error.strerror}); choose another") from error
    if taken:
        raise InputError(f"{path} holds a job; add --resume to continue it, or choose another folder")
    check_empty(path)


def check_writable(path: Path) -> None:
    """Raise `InputError` unless a folder that is empty or not there yet can be made and written.

    Tried, since a file system such as that of ``/proc`` refuses what its permissions allow.
    """
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    # As of `atomic_path`, and short, since the folder's own name may be as long as a name can be.
    trial = nearest / f".out.{secrets.token_hex(4)}"
    try:
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        if is_full_disk(error):
            raise InputError(f"{nearest}: no space is left; free some, or use another --out") from error
        raise InputError(f"{nearest} can't be written; choose another folder for --out") from error


def _block(path: Path, number: int) -> Path:
    return path / "blocks" / f"{number:08d}.npz"


def _check_same(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for section in ("settings", "model", "stacks"):
        old, new = _flat(before.get(section)), _flat(now[section])
        for name in {**old, **new}:
            if old.get(name) != new.get(name):
                if section == "settings":
                    was, now_is = (given.get(name) for given in (old, new))
                    difference = f"with {name} = {_said(was)}, and now it is {_said(now_is)}"
                else:
                    what, of_files, _ = name.partition(".files.")
                    said = f"the files of {what} were changed since" if of_files else f"{name} differs"
                    difference = f"from another {section.removesuffix('s')} ({said})"
                raise InputError(
                    f"{path} was made {difference}; resume with the same model, stacks and settings "
                    "or choose another folder for --out"
                )


def _said(setting: Any) -> str:
    return "not given" if setting is None else str(setting)


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return what nested dictionaries hold by dotted names, as JSON would give it back."""
    if isinstance(value, dict):
        parts = [_flat(inner, f"{name}.{key}".lstrip(".")) for key, inner in value.items()]
        return {key: inner for part in parts for key, inner in part.items()}
    return {name: json.loads(json.dumps(value))}


def _lock(path: Path) -> ExitStack:
    """Lock a job's record until the stack is closed or the process ends."""
    with ExitStack() as held:
        with suppress(OSError):  # a folder that can be read only
            # Open for writing, which NFS wants of a file to be locked.
            record = held.enter_context((path / RECORD_FILE).open("r+b"))
            lock(record.fileno(), f"{path} belongs to a job")
        return held.pop_all()


def _remove_leftovers(path: Path) -> None:
    """Remove what a killed job was writing: files of `atomic_path`, and zarr's."""
    remove_leftovers(path)
    for file in path.rglob("*.partial"):
        if _PARTIAL.fullmatch(file.name) and file.is_file():
            file.unlink(missing_ok=True)  # a worker that outlived its command may rename it
