"""The last step: the figures of a run, and one page that explains them."""

from collections import Counter

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.figures import CAPTIONS, NOTES, figure_png
from eigenfeatures.eigen.files import write_bytes
from eigenfeatures.eigen.model_file import Model
from eigenfeatures.eigen.phantom import SYNTHETIC
from eigenfeatures.eigen.samples import SampleSet
from eigenfeatures.eigen.split import GUARD, TRAIN, VALIDATION
from eigenfeatures.export.finished import Finished
from eigenfeatures.export.html import Cell, Section, Table, write_report
from eigenfeatures.export.remarks import remarks
from eigenfeatures.export.run_figures import COMPARED_TRAINING, run_figures
from eigenfeatures.export.run_folder import RunFolder, repeats
from eigenfeatures.export.talk import Talk


def report_step(folder: RunFolder, samples: SampleSet, model: Model, talk: Talk) -> None:
    """Draw all figures into ``figures/`` and write ``report.html``.

    Raises
    ------
    InputError
        When a step before this one is missing.
    """
    (folder.figures / f"{COMPARED_TRAINING}.png").unlink(missing_ok=True)
    _write(Finished(folder, samples, model), None, talk)


def compare_step(
    opened: tuple[RunFolder, SampleSet, Model], other: tuple[RunFolder, SampleSet, Model], talk: Talk
) -> None:
    """Do what `report_step` does for the first run, with the second beside it.

    Raises
    ------
    InputError
        When a step before this one is missing, or the two are one run or have not the same slices.
    """
    if opened[0].path.resolve() == other[0].path.resolve():
        raise InputError(f"--compare {other[0].path} is the run itself; give another run, or leave it out")
    run, compared = Finished(*opened), Finished(*other)
    if not run.cuts_as(compared):
        raise InputError(
            f"{compared.folder.path} is a run on other samples or regions; compare runs on the same ones"
        )
    _write(run, compared, talk)


def _write(run: Finished, other: Finished | None, talk: Talk) -> None:
    figures = run_figures(run, other)
    sections = []
    for name, (file, draw) in talk.track(figures.items(), "figures", len(figures)):
        png = figure_png(draw())
        write_bytes(run.folder.figures / f"{file}.png", png)
        sections.append(Section(*CAPTIONS[name], figure=png))
    write_report(
        run.folder.report,
        title=f"Eigenfeatures of {', '.join(run.samples.classes)}",
        summary=_summary(run),
        sections=[_method(run), *_notes(run), *sections, *_tables(run)],
    )


def _summary(run: Finished) -> list[tuple[str, Cell]]:
    metrics, settings = run.metrics[VALIDATION], run.folder.settings
    height, width = run.samples.size
    return [
        ("samples", len(run.samples.classes)),
        ("slices", f"{len(run.samples)} of {height}×{width}"),
        ("network", settings.preset),
        ("validation accuracy", f"{metrics['accuracy']:.1%} of {metrics['slices']}"),
        ("split", settings.split),
        ("median σ₂/σ₁", _cell(run.median("sigma2_over_sigma1"))),
        ("median σ₁²/‖X‖²", _cell(run.median("energy1"))),
        ("flagged slices", sum(bool(flag) for flag in run.table["flag"])),
    ]


def _cell(value: float | None) -> Cell:
    return "–" if value is None else value


def _method(run: Finished) -> Section:
    settings = run.folder.settings
    notes = [NOTES[settings.split]]
    if settings.preset in NOTES:
        notes.append(NOTES[settings.preset])
    if _is_phantom(run.folder):
        notes.append(NOTES["phantom"])
    return Section("How to read these results", " ".join(notes), points=remarks(run.metrics))


def _notes(run: Finished) -> list[Section]:
    """Return what was said of the stacks as they were read, if anything was."""
    notes = [*run.samples.notes, *repeats(run.samples, run.folder.inputs)]
    return [Section("Notes on the stacks", "", points=notes)] if notes else []


def _is_phantom(folder: RunFolder) -> bool:
    readme = folder.samples / "README.txt"
    return readme.is_file() and readme.read_bytes().startswith(SYNTHETIC.encode())


def _tables(run: Finished) -> list[Section]:
    settings = [[name, str(value)] for name, value in run.folder.settings.used().items()]
    environment = [[name, value] for name, value in run.environment.items()]
    return [
        Section(*CAPTIONS["class_metrics"], table=_by_sample(run)),
        Section(*CAPTIONS["settings"], table=Table(["setting", "value"], settings)),
        Section(*CAPTIONS["versions"], table=Table(["name", "value"], environment)),
    ]


def _by_sample(run: Finished) -> Table:
    slices = Counter(zip(run.table["sample"], run.table["split"], strict=True))
    parts = (VALIDATION, TRAIN, GUARD)
    rows: list[list[Cell]] = []
    for name, values in run.metrics[VALIDATION]["per_class"].items():
        shares = ["–" if values[key] is None else f"{values[key]:.1%}" for key in ("precision", "recall")]
        likeness = _cell(run.metrics.get("likeness", {}).get(name))
        rows.append([name, *shares, likeness, *(slices[name, part] for part in parts)])
    return Table(["sample", "precision", "recall", "likeness", *(f"{part} slices" for part in parts)], rows)
