"""What is installed, what it imports, and in which direction."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from commands import ENVIRONMENT

ROOT = Path(__file__).parents[1]
PARTS = ("kernels", "eigen", "export")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODULES = [path for part in PARTS for path in sorted((ROOT / part).rglob("*.py"))]


def imported(module):
    """The names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def python(script, **options):
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        **{"env": ENVIRONMENT, **options},
    )


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(module):
    """kernels ← eigen ← export, and never by another name, which would load a second copy."""
    part = module.relative_to(ROOT).parts[0]
    allowed = PARTS[: PARTS.index(part) + 1]
    for name in imported(module):
        first, *rest = name.split(".")
        assert first not in PARTS, f"{module} imports {name}, not eigenfeatures.{name}"
        if first == "eigenfeatures" and rest:
            assert rest[0] in allowed, f"{part} may not import {name}"


def test_every_import_is_a_declared_dependency():
    """The base install runs the kernels, and [cpu] the rest."""
    extras = PROJECT["optional-dependencies"]

    def names(requirements):
        return {re.match(r"[\w-]+", text)[0].lower().replace("_", "-") for text in requirements}

    base = names(PROJECT["dependencies"])
    declared = {"kernels": base, "eigen": base | names([*extras["method"], *extras["cpu"]])}
    declared["export"] = (
        declared["eigen"] | names(extras["cluster"]) | {"cupy", "cupyx", *names(extras["gpu"])}
    )
    distributions = packages_distributions()
    for module in MODULES:
        roots = {name.split(".")[0] for name in imported(module)}
        for root in roots - set(sys.stdlib_module_names) - {"eigenfeatures"}:
            # A package for GPUs that isn't installed here is known by the name of its import.
            found = {name.lower().replace("_", "-") for name in distributions.get(root, [root])}
            part = module.relative_to(ROOT).parts[0]
            assert found & declared[part], f"{module} imports {root}, which {part} does not declare"
    assert base == {"numpy", "numba"}


def test_each_extra_names_one_onnx_runtime():
    """The builds for CPU and GPU overwrite each other."""
    extras = PROJECT["optional-dependencies"]
    for name in ("cpu", "gpu"):
        assert "eigenfeatures[method]" in extras[name]
        runtimes = [text for text in (*extras["method"], *extras[name]) if text.startswith("onnxruntime")]
        assert [text.startswith("onnxruntime-gpu") for text in runtimes] == [name == "gpu"]
    assert not any("eigenfeatures[gpu]" in text for text in (*extras["test"], *extras["dev"]))


def test_kernels_load_neither_torch_nor_onnx_nor_cuda():
    done = python("import sys, eigenfeatures.kernels; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "numba" in loaded
    heavy = {"torch", "onnx", "onnxruntime", "cupy", "cuda", "matplotlib", "tifffile"}
    assert loaded & heavy == set()
    assert "numba.cuda" not in done.stdout.split()


def test_kernels_add_little_to_the_import_of_numba():
    """Both in one process, so that a busy machine slows them alike."""
    script = """
import time
start = time.perf_counter()
import numba
between = time.perf_counter()
import eigenfeatures.kernels
print((time.perf_counter() - between) / (between - start))
"""
    assert min(float(python(script).stdout) for _ in range(3)) < 1


@pytest.mark.parametrize(("package", "arguments"), [("typer", []), ("torch", ["demo", "--out", "demo"])])
def test_a_missing_extra_is_one_line_that_names_it(package, arguments, tmp_path):
    """As after `pip install eigenfeatures`, which leaves out the command line's libraries."""
    script = f"""
import os, runpy, sys
os.chdir({str(tmp_path)!r})
sys.modules[{package!r}] = None
sys.argv = ["eigenfeatures", *{arguments}]
runpy.run_module("eigenfeatures.export", run_name="__main__")
"""
    done = python(script)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(rf"error: .*'?{package}'?.*eigenfeatures\[cpu\].*\n", done.stderr)


def test_the_console_script_exists():
    module, _, name = PROJECT["scripts"]["eigenfeatures"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the archives of a copy of the tree: setuptools leaves its traces beside the sources."""
    folder = tmp_path_factory.mktemp("built")
    ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "*.so")
    tree = shutil.copytree(ROOT, folder / "tree", ignore=ignored)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--sdist", "--wheel", "--no-isolation", "--outdir", folder, tree],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


def test_the_sdist_holds_sources_tests_and_documents(built, tmp_path):
    (archive,) = built.glob("*.tar.gz")
    shutil.unpack_archive(archive, tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    names = {file.relative_to(source).as_posix() for file in source.rglob("*") if file.is_file()}
    kinds = {".py", ".md", ".csv", ".png", ".j2", ".typed"}
    wanted = {
        file.relative_to(ROOT).as_posix()
        for folder in (*PARTS, "tests", "benchmarks", "docs")
        for file in (ROOT / folder).rglob("*")
        if file.suffix in kinds
    }
    assert wanted | {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "pyproject.toml"} <= names
    assert not any(name.endswith(".pyc") for name in names)


def test_the_wheel_holds_every_module_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    data = [f"eigenfeatures/{part}/py.typed" for part in PARTS] + ["eigenfeatures/export/report.html.j2"]
    assert names == {*(f"eigenfeatures/{path.relative_to(ROOT).as_posix()}" for path in MODULES), *data}


def test_the_wheel_says_what_it_needs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
        (scripts,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert f"eigenfeatures = {PROJECT['scripts']['eigenfeatures']}" in archive.read(scripts).decode()
        assert any(name.endswith("LICENSE") for name in archive.namelist())
    required = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", text, re.MULTILINE)
    assert sorted(required) == ["numba", "numpy"]
    assert {"cpu", "gpu", "test"} <= set(re.findall(r"^Provides-Extra: (\w+)$", text, re.MULTILINE))


def test_the_wheel_runs(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    script = (
        "import sys, eigenfeatures.export.cli as cli; print(cli.__file__, file=sys.stderr);"
        "sys.argv[1:] = ['phantom', 'stacks', '--slices', '1', '--size', '8', '--json']; cli.main()"
    )
    done = python(script, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert Path(done.stderr.splitlines()[0]).is_relative_to(tmp_path)
    assert len(list((tmp_path / "stacks").rglob("*.tif"))) == 4
