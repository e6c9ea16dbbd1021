"""Links from HDF5 file to HDF5 file: followed within the folder, refused beyond it."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hdf5_files import VOLUME, link, virtual, write

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.stacks import VoxelSize
from eigenfeatures.eigen.volumes import open_volume


@pytest.mark.parametrize("target", ["raw.h5", "./raw.h5", "below/raw.h5", "below/deeper/raw", "{}/raw.h5"])
@pytest.mark.parametrize("options", [{}, {"axis": 1}, {"axis": 2, "every": 3}])
def test_a_link_is_followed_within_the_folder(folder: Path, target: str, options: dict[str, int]) -> None:
    target = target.format(folder)
    raw = write(folder / target, chunks=(4, 6, 5))
    path = link(folder / "master.nxs", target)
    expected = np.moveaxis(VOLUME, options.get("axis", 0), 0)[:: options.get("every", 1)]
    for source in (path, f"{path}:/entry/data"):
        with open_volume(source, **options) as stack:
            assert str(stack.path) == f"{path}:/entry/data"
            assert stack.files == (path, raw.resolve())
            np.testing.assert_array_equal(stack.read(range(len(expected))), expected)


def test_a_link_to_a_group_is_followed_and_links_in_it_start_at_the_root_of_its_file(folder: Path) -> None:
    raw = write(folder / "raw.h5", name="detector/counts")
    with h5py.File(raw, "a") as file:
        file["plot/data"] = h5py.SoftLink("/detector/counts")
        file["detector"].attrs["note"] = file["detector/counts"].attrs["element_size_um"] = (3, 2, 1)
    path = link(write(folder / "v.h5", VOLUME // 2, "detector/counts"), "raw.h5", "/", "scan")
    with open_volume(f"{path}:/scan/plot/data", axis=2) as stack:
        np.testing.assert_array_equal(stack.read([4]), np.moveaxis(VOLUME, 2, 0)[[4]])
        assert stack.voxel_size == VoxelSize(1, 3, 2)


def test_a_linked_volume_counts_as_one_of_the_file(folder: Path) -> None:
    write(folder / "raw.h5")
    path = link(write(folder / "v.h5", VOLUME // 2, "entry/flats"), "raw.h5")
    link(path, "raw.h5", name="entry/again")
    with pytest.raises(InputError, match=r"holds the volumes /entry/flats, /entry/again; name one"):
        open_volume(path)
    with h5py.File(path, "a") as file:
        file.attrs["default"], file["entry"].attrs["signal"] = "entry", "data"
    with open_volume(path) as stack:
        assert stack.path.name == "data"
        assert "which the file has as default" in stack.notes[0]


def test_links_that_lead_nowhere_don_t_hinder_the_choice(folder: Path) -> None:
    path = link(write(folder / "v.h5", name="entry/own"), "none.h5")
    write(folder / "raw.h5", VOLUME[0], "entry/flat")
    link(path, "raw.h5", "/entry/flat", "entry/flat")
    with open_volume(path) as stack:
        assert stack.path.name == "own"
        assert stack.files == (path,)


# What isn't followed


REFUSED = {
    "../out.h5": r"leads to '\.\./out\.h5' outside of its folder, which isn't followed for safety; open",
    "below/../raw.h5": r"leads to 'below/\.\./raw\.h5' outside of its folder",
    "below/../../out.h5": "outside of its folder",
    "{out}": r"leads to '/.*/out\.h5' outside of its folder",
    "symlink.h5": r"leads to 'symlink\.h5' by a symbolic link that doesn't end in its folder, which",
    "symlinks/out.h5": "by a symbolic link that doesn't end in its folder",
    "circle.h5": r"leads to 'circle\.h5' by a symbolic link that doesn't end",
    "/proc/self/root{out}": "outside of its folder",
    "none.h5": r"leads to 'none\.h5', which is no file in its folder; copy it there too",
    "below": "leads to 'below', which is no file in its folder",
    "pipe.h5": "which is no file in its folder",
    "new\nline": r"leads to 'new\\nline', which is no file",
    "notes.txt": r"leads to /.*/notes\.txt, which isn't an HDF5 file that can be read \(.*\); copy",
    "cut.h5": r"leads to /.*/cut\.h5, which isn't an HDF5 file that can be read",
}


def test_a_name_that_is_too_long_for_a_file_is_told_in_short(folder: Path) -> None:
    path = link(folder / "v.h5", "a" * 5000 + ".h5")
    for source in (path, f"{path}:/entry/data"):
        with pytest.raises(
            InputError, match=r"v\.h5:/entry/data: leads to 'a+…', which is no file in its folder; copy it"
        ) as refusal:
            open_volume(source)
        assert len(str(refusal.value)) < len(str(path)) + 400


@pytest.fixture
def hostile(folder: Path) -> Path:
    """Return a folder with all that a link could be led out by; each of the files holds the volume."""
    out = write(folder.parent / "out.h5")
    raw = write(folder / "raw.h5")
    (folder / "below").mkdir()
    (folder / "symlink.h5").symlink_to(out)
    (folder / "symlinks").symlink_to(folder.parent)
    (folder / "circle.h5").symlink_to("circle.h5")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.h5")
    (folder / "notes.txt").write_text("no HDF5")
    (folder / "cut.h5").write_bytes(raw.read_bytes()[:-50])
    return folder


@pytest.mark.parametrize("target", REFUSED)
@pytest.mark.parametrize("kind", ["link", "virtual"])
def test_other_places_are_refused(hostile: Path, target: str, kind: str) -> None:
    name = target.format(out=hostile.parent / "out.h5")
    path = hostile / "v.h5"
    if kind == "link":
        link(path, name)
    else:
        virtual(path, [(name, slice(None), slice(None))])
    for source in (path, f"{path}:/entry/data"):
        with pytest.raises(InputError, match=r"v\.h5:/entry/data: leads to ") as refusal:
            open_volume(source)
        assert refusal.match(REFUSED[target])
        assert "\n" not in str(refusal.value)


def test_a_symbolic_link_that_stays_in_the_folder_is_followed(folder: Path) -> None:
    """Also the way to the file itself may have some."""
    raw = write(folder / "below" / "raw.h5")
    (folder / "alias.h5").symlink_to(raw)
    link(folder / "master.h5", "alias.h5")
    (folder.parent / "elsewhere").mkdir()
    (folder.parent / "elsewhere" / "scan.h5").symlink_to(folder / "master.h5")
    (folder.parent / "elsewhere" / "alias.h5").symlink_to(write(folder.parent / "x.h5", VOLUME // 2))
    for path in (folder / "master.h5", folder.parent / "elsewhere" / "scan.h5"):
        with open_volume(path) as stack:
            np.testing.assert_array_equal(stack.read(range(9)), VOLUME)


def test_a_link_does_not_lead_on(folder: Path) -> None:
    write(folder / "raw.h5")
    second = link(folder / "second.h5", "raw.h5")
    path = link(folder / "v.h5", "second.h5")
    virtual(path, [("second.h5", slice(None), slice(None))], "virtual")
    with pytest.raises(
        InputError,
        match=f"v.h5:/entry/data: leads to {second}, which leads on to another file; open {second}",
    ):
        open_volume(f"{path}:/entry/data")
    with pytest.raises(InputError, match=f"v.h5:/virtual: .*{second}, which leads on to another file"):
        open_volume(f"{path}:/virtual")
    with open_volume(second) as stack:
        np.testing.assert_array_equal(stack.read([3]), VOLUME[[3]])


def test_a_file_may_link_to_itself_but_not_in_circles(folder: Path) -> None:
    path = link(write(folder / "v.h5", name="entry/own"), "v.h5", "/entry/own")
    link(path, "v.h5", "/loop", "loop")
    with open_volume(f"{path}:/entry/data") as stack:
        assert stack.files == (path,)
        np.testing.assert_array_equal(stack.read([3]), VOLUME[[3]])
    with pytest.raises(InputError, match=r"v\.h5:/loop: leads to .*v\.h5, which leads on to another file"):
        open_volume(f"{path}:/loop")


def test_the_environment_does_not_lead_elsewhere(folder: Path) -> None:
    """Unlike with HDF5 itself."""
    write(folder / "raw.h5")
    virtual(link(folder / "v.h5", "raw.h5", name="link"), [("raw.h5", slice(None), slice(None))], "virtual")
    write(folder.parent / "elsewhere" / "raw.h5", VOLUME // 2)
    program = (
        "import sys, h5py, numpy as np\n"
        "from eigenfeatures.eigen.volumes import open_volume\n"
        "for name in ('link', 'virtual'):\n"
        "    with open_volume(f'{sys.argv[1]}:/{name}') as stack:\n"
        "        ours = stack.read([5])\n"
        "    with h5py.File(sys.argv[1]) as file:\n"
        "        theirs = file[name][5]\n"
        "    print(ours.sum(), theirs.sum())\n"
    )
    prefix, modules = str(folder.parent / "elsewhere"), os.pathsep.join(sys.path)
    redirected = {"HDF5_EXT_PREFIX": prefix, "HDF5_VDS_PREFIX": prefix, "PYTHONPATH": modules}
    said = subprocess.run(
        [sys.executable, "-c", program, str(folder / "v.h5")],
        env=os.environ | redirected,
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    ours, theirs = VOLUME[5].sum(), (VOLUME[5] // 2).sum()
    assert list(map(int, said)) == [ours, theirs, ours, theirs]
