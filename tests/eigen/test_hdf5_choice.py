"""Which data set of an HDF5 file is read where none is named, whatever else the file holds."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from hdf5_files import SHAPE, VOLUME, link, write

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.volumes import open_volume


def add(path: Path, kind: str) -> None:
    """Put something in a file that can't be named in UTF-8, or leads to such."""
    with h5py.File(path, "a") as file:
        links = file.id.links
        if kind == "number":
            file[b"gr\xf6\xdfe"] = 1.0
        elif kind == "link":
            links.create_soft(b"gr\xf6\xdfe", b"nowhere")
        elif kind == "name of an external link":
            links.create_external(b"gr\xf6\xdfe", b"none.h5", b"/data")
        elif kind == "file of an external link":
            links.create_external(b"linked", b"gr\xf6\xdfe.h5", b"/data")
        elif kind == "target of an external link":
            links.create_external(b"linked", path.name.encode(), b"/gr\xf6\xdfe")
        elif kind == "type":
            file["type"] = np.dtype("f4")
        else:
            names = (b"gr\xf6.h5", b"data") if kind == "source of a virtual one" else (b"raw.h5", b"gr\xf6")
            space, settings = h5py.h5s.create_simple(SHAPE), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            settings.set_virtual(space, *names, space)
            h5py.h5d.create(file.id, b"virtual", h5py.h5t.NATIVE_UINT16, space, settings)


ODD = [
    "number",
    "link",
    "name of an external link",
    "file of an external link",
    "target of an external link",
    "type",
    "source of a virtual one",
    "name in the source of a virtual one",
]


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("linked", [False, True])
def test_what_has_an_odd_name_doesn_t_hide_a_volume(tmp_path: Path, kind: str, linked: bool) -> None:
    path = tmp_path / "v.h5"
    if linked:
        link(path, write(tmp_path / "raw.h5").name)
    else:
        write(path)
    add(path, kind)
    with open_volume(path) as stack:
        assert str(stack.path) == f"{path}:/entry/data"
        np.testing.assert_array_equal(stack.read([3]), VOLUME[[3]])
    with pytest.raises(InputError, match=r"v\.h5:/none: is not in the file; / has .*entry"):
        open_volume(f"{path}:/none")


@pytest.mark.parametrize("kind", ODD[3:])
def test_what_has_an_odd_name_is_refused_in_plain_words(tmp_path: Path, kind: str) -> None:
    add(tmp_path / "v.h5", kind)
    (name,) = h5py.File(tmp_path / "v.h5")
    with pytest.raises(InputError, match=rf"v\.h5:/{name}: ") as refusal:
        open_volume(f"{tmp_path / 'v.h5'}:/{name}")
    assert refusal.match(
        r"leads to 'gr\\udcf6\\udcdfe\.h5', which is no file"
        "|a link in it leads to 'gr\ufffd\ufffde', which is not there; / has linked"
        "|is no data set but describes a type of values; name a data set"
        "|takes slices from a file or a data set whose name is no UTF-8"
    )
    str(refusal.value).encode()


@pytest.mark.parametrize("hint", [False, True])
def test_a_volume_of_an_odd_name_is_read_and_shown(tmp_path: Path, hint: bool) -> None:
    path = tmp_path / "v.h5"
    with h5py.File(path, "w") as file:
        file.create_group(b"scan\xf6")[b"gr\xf6\xdfe"] = VOLUME
        if hint:
            file["other"] = VOLUME // 2
            file[b"scan\xf6"].attrs["NX_class"] = "NXentry"
            file[b"scan\xf6"].attrs["signal"] = np.bytes_(b"gr\xf6\xdfe")
    with open_volume(path) as stack:
        assert str(stack.path) == f"{path}:/scan\ufffd/gr\ufffd\ufffde"
        np.testing.assert_array_equal(stack.read([3]), VOLUME[[3]])
        assert len(stack.notes) == hint


def test_a_type_is_no_group(tmp_path: Path) -> None:
    path = tmp_path / "v.h5"
    with h5py.File(path, "w") as file:
        file["type"] = np.dtype("f4")
        file["link"] = h5py.SoftLink("/type/data")
    for name, reason in (
        ("type", "is no data set but describes a type of values; name a data set"),
        ("type/data", "is not in the file; /type has no members"),
        ("link", "a link in it leads to 'data', which is not there; /type has no members"),
    ):
        with pytest.raises(InputError, match=f"v.h5:/{name}: {reason}"):
            open_volume(f"{path}:/{name}")


def test_an_object_that_can_t_be_opened_doesn_t_hide_a_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(write(tmp_path / "v.h5"), VOLUME // 2, "entry/broken")
    get = h5py.Group.__getitem__

    def fail(self: h5py.Group, name: str | bytes) -> object:
        if name in ("entry/broken", b"entry/broken"):
            raise KeyError("unable to open object")
        return get(self, name)

    monkeypatch.setattr(h5py.Group, "__getitem__", fail)
    with open_volume(path) as stack:
        assert stack.path.name == "data"
    with h5py.File(path, "a") as file:
        del file["entry/data"]
    with pytest.raises(InputError, match=r"v\.h5:/entry/broken: can't be read \(.*unable to open"):
        open_volume(path)


def test_many_volumes_are_told_apart_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, number = tmp_path / "v.h5", 200
    with h5py.File(path, "w") as file:
        for k in range(number):
            file.create_dataset(f"{k}", (2, 3, 4), np.uint8)
        file["same"] = file["0"]
    base = h5py.Dataset.__mro__[1]
    equal, compared = base.__eq__, []

    def count(self: object, other: object) -> bool:
        compared.append(1)
        return equal(self, other)

    monkeypatch.setattr(base, "__eq__", count)
    with pytest.raises(InputError, match=r"holds the volumes /0, /1, /10, .*, …; name one"):
        open_volume(path)
    assert len(compared) <= 3 * number


@pytest.mark.parametrize("own", [True, False])
def test_links_that_are_not_followed_are_told(tmp_path: Path, own: bool) -> None:
    """The volume to be read may be behind any of them."""
    write(write(tmp_path / "raw.h5"), VOLUME[0], "entry/dark")
    path = tmp_path / "v.h5"
    with h5py.File(path, "w") as file:
        for k in range(100 if own else 99):
            file[f"dark{k}"] = h5py.ExternalLink("raw.h5", "/entry/dark")
    write(path, name="entry/own") if own else link(path, "raw.h5", "/entry/data", "a")
    with open_volume(path) as stack:
        assert stack.path.name == ("own" if own else "a")
    link(path, "raw.h5", "/entry/data", "scan")
    found = "/entry/own" if own else "/a"
    with pytest.raises(
        InputError,
        match=rf"v\.h5: has 101 links to other files and 100 are followed to look for volumes "
        rf"\(found so far: {found}\); name the one to read: .*v\.h5:{found}$",
    ):
        open_volume(path)
    with open_volume(f"{path}:/scan") as stack:
        np.testing.assert_array_equal(stack.read([3]), VOLUME[[3]])
    with h5py.File(path, "a") as file:
        file.create_group("scans").attrs["signal"] = "/scan"
        file.attrs["default"] = "scans"
    with open_volume(path) as stack:
        assert stack.path.name == "scan"
        assert "which the file has as default" in stack.notes[0]


@pytest.mark.parametrize("linked", [False, True])
def test_a_file_that_is_being_written_is_told_as_such(tmp_path: Path, linked: bool) -> None:
    fcntl = pytest.importorskip("fcntl")
    path = write(tmp_path / "raw.h5")
    given = link(tmp_path / "v.h5", "raw.h5") if linked else path
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as HDF5 does when it writes
        with pytest.raises(
            InputError, match=r"raw\.h5(:|, which) is being written by another program \(.*\); wait until it"
        ) as refusal:
            open_volume(given)
    assert "\n" not in str(refusal.value)
    with open_volume(given) as stack:
        assert stack.shape == SHAPE


def test_a_name_like_the_mistyped_one_is_shown_among_many(tmp_path):
    path = tmp_path / "v.h5"
    with h5py.File(path, "w") as file:
        for name in (*(f"a{number}" for number in range(9)), "raw"):
            file.create_group(name)
    with pytest.raises(InputError, match=r"is not in the file; did you mean raw\? / has a0, a1, .*, a7, …$"):
        open_volume(f"{path}:/rwa")
    with pytest.raises(InputError, match=r"is not in the file; / has a0, a1, .*, a7, …$"):
        open_volume(f"{path}:/zzzzzz")
