"""The command ``eigenfeatures``."""

import io
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.console import print_error, terminal_talk
from eigenfeatures.export.infer_command import infer
from eigenfeatures.export.missing import install_advice
from eigenfeatures.export.options import RESUME, Values, reports, with_settings
from eigenfeatures.export.settings import Settings
from eigenfeatures.export.system_errors import in_words

app = typer.Typer(
    help="What makes these X-ray CT samples different? From slices to a classifier and its eigenfeatures.",
    add_completion=False,
    rich_markup_mode="rich",
)

SAMPLES = Annotated[
    Path, typer.Argument(help="Folder whose entries are the samples: folders of TIFFs or multi-page TIFFs.")
]
RUN = Annotated[Path, typer.Argument(help="Folder of a run.")]
OUT = Annotated[Path, typer.Option("--out", help="Folder for the results.")]


@app.command()
@reports
@with_settings
def run(
    samples: SAMPLES,
    out: OUT,
    *,
    resume: RESUME = False,
    settings: Settings,
) -> Values:
    """Do all: statistics, training, ONNX, predictions, eigenfeatures and the report.

    Example: eigenfeatures run stacks/ --out run1 --preset reduced --voxel-size 2
    """
    from eigenfeatures.export.pipeline import complete_run, summary

    folder = complete_run(samples, out, settings, resume, terminal_talk())
    return summary(folder)


@app.command()
@reports
@with_settings
def stats(samples: SAMPLES, out: OUT, *, settings: Settings) -> Values:
    """Measure every slice: its mean and the mean of its gradient magnitude.

    Example: eigenfeatures stats stacks/ --out run1 --operator scharr
    """
    from eigenfeatures.export.pipeline import summary
    from eigenfeatures.export.steps import measure

    with measure(samples, out, settings, terminal_talk()) as measured:
        return summary(measured.folder)


@app.command()
@reports
@with_settings
def train(
    samples: SAMPLES,
    out: OUT,
    *,
    resume: RESUME = False,
    settings: Settings,
) -> Values:
    """Measure every slice and train the network.

    Example: eigenfeatures train stacks/ --out run1 --preset paper --iterations 70
    """
    from eigenfeatures.export.pipeline import summary
    from eigenfeatures.export.steps import start, train_step

    talk = terminal_talk()
    with start(samples, out, settings, resume, talk) as started:
        if not started.folder.has_model:
            train_step(started, talk)
    return summary(started.folder)


@app.command()
@reports
def export(
    run: RUN,
    *,
    outputs: Annotated[
        str | None,
        typer.Option(
            help="What the graph gives, comma-separated: probabilities, logits, alpha, eigenfeatures, "
            "singular_values, gap, residual, or response layers (default: all but logits and layers)."
        ),
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Response layer, in place of the run's.")] = None,
    resolution: Annotated[str | None, typer.Option(help="pooled or dense, in place of the run's.")] = None,
    rank: Annotated[
        int | None, typer.Option(help="How many singular vectors, in place of the run's.")
    ] = None,
    any_size: Annotated[
        bool, typer.Option("--any-size", help="Take slices of any size, each as a whole; no probabilities.")
    ] = False,
    precision: Annotated[
        str, typer.Option(help="float32; float16 for CUDA; int8 for the CPU. All are held to float32.")
    ] = "float32",
    force: Annotated[
        bool, typer.Option("--force", help="Write float16 or int8 even if it is less accurate than asked.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File to make (default: RUN/model.onnx, or as RUN/model-int8.onnx)."),
    ] = None,
) -> Values:
    """Export the trained network to one ONNX file and check it against torch.

    Example: eigenfeatures export run1

    Example: eigenfeatures export run1 --precision int8

    Example: eigenfeatures export run1 --outputs eigenfeatures,gap --any-size --out features.onnx
    """
    from eigenfeatures.export.outputs import default_outputs, parse_outputs
    from eigenfeatures.export.precision import check_precision, check_target, precision_step
    from eigenfeatures.export.steps import open_run

    check_precision(precision)
    asked = default_outputs(any_size) if outputs is None else parse_outputs(outputs)
    path = out or run / ("model.onnx" if precision == "float32" else f"model-{precision}.onnx")
    check_target(path)
    with open_run(run, terminal_talk(), layer=layer, resolution=resolution, rank=rank) as opened:
        check, accuracy = precision_step(
            *opened, precision, path, outputs=asked, any_size=any_size, force=force
        )
    return {
        "model": str(path),
        "precision": precision,
        "slices_compared": check.slices,
        "undetermined_vectors": check.undetermined,
        **(
            {"largest_difference_of_float32_from_torch": check.largest, "accuracy": accuracy.facts()}
            if accuracy
            else {f"largest_difference_of_{name}": value for name, value in check.differences.items()}
        ),
    }


@app.command("model-info")
@reports
def model_info(file: Annotated[Path, typer.Argument(help="An exported ONNX file.")]) -> Values:
    """Show what an exported file says of itself.

    Example: eigenfeatures model-info run1/model.onnx
    """
    from eigenfeatures.export.metadata import model_info

    return model_info(file)


app.command()(infer)


@app.command()
@reports
def features(
    run: RUN,
    *,
    layer: Annotated[str | None, typer.Option(help="Response layer, in place of the run's.")] = None,
    resolution: Annotated[str | None, typer.Option(help="pooled or dense, in place of the run's.")] = None,
    rank: Annotated[int | None, typer.Option(help="How many singular vectors to write, up to 8.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda, in place of the run's.")] = None,
) -> Values:
    """Compute α channels, singular values and eigenfeatures of every slice.

    Example: eigenfeatures features run1 --layer relu1 --rank 3
    """
    from eigenfeatures.export.features import features_step, say_outdated
    from eigenfeatures.export.pipeline import summary
    from eigenfeatures.export.run_folder import RunFolder
    from eigenfeatures.export.steps import open_run

    talk = terminal_talk()
    changes: dict[str, Any] = {"layer": layer, "resolution": resolution, "rank": rank, "device": device}
    with open_run(run, talk, **changes) as (folder, stacks, model):
        before = RunFolder.open(run).settings
        features_step(folder, stacks, model, talk)
    say_outdated(folder, before, talk)
    return summary(folder)


@app.command()
@reports
def report(
    run: RUN,
    *,
    compare: Annotated[
        Path | None,
        typer.Option(help="Another run on the same samples, for the third columns of Fig. 11 and 13."),
    ] = None,
) -> Values:
    """Draw the figures and write report.html.

    Example: eigenfeatures report run1 --compare run2
    """
    from eigenfeatures.export.report import compare_step, report_step
    from eigenfeatures.export.steps import open_run

    talk = terminal_talk()
    with open_run(run, talk) as opened:
        if compare is None:
            report_step(*opened, talk)
        else:
            with open_run(compare, talk, alone=False) as other:
                compare_step(opened, other, talk)
    return {"report": str(run / "report.html")}


@app.command()
@reports
@partial(with_settings, without=("preset", "labels", "rank"))
def study(
    samples: SAMPLES,
    out: OUT,
    *,
    presets: Annotated[
        str | None,
        typer.Option(help="Networks of the core plan, comma-separated (default: paper,reduced,alexnet)."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Trainings of each network (default: 5).")] = None,
    also: Annotated[
        str, typer.Option(help="Further plans, comma-separated: nulls, splits, operators, claims.")
    ] = "",
    also_preset: Annotated[
        str | None, typer.Option(help="The network that further plans train (default: reduced).")
    ] = None,
    also_seeds: Annotated[int, typer.Option(help="Trainings of each of its variations.")] = 3,
    jobs: Annotated[int, typer.Option(help="Trainings at once, which share the processor.")] = 1,
    threads: Annotated[
        int, typer.Option(help="Of each training, however many run at once; decides how sums are rounded.")
    ] = 2,
    properties: Annotated[
        Path | None, typer.Option(help="CSV table of known properties, a row a sample, to rank them by.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A trial in minutes: small network, fewer seeds."),
    ] = False,
    resume: RESUME = False,
    settings: Settings,
) -> Values:
    """Measure the paper's claims on your samples: how stable eigenfeatures are, and whose.

    Trains every network with several seeds and compares what they make of every slice.

    Example: eigenfeatures study stacks/ --out study1

    Example: eigenfeatures study stacks/ --out study1 --also nulls,splits,operators,claims --resume

    Example: eigenfeatures study stacks/ --out trial --quick
    """
    from eigenfeatures.export.study.study import StudyOptions, quick_settings, run_study

    usual = StudyOptions(("small",), seeds=3, also_preset="small") if quick else StudyOptions()
    options = StudyOptions(
        presets=usual.presets if presets is None else _names(presets),
        seeds=usual.seeds if seeds is None else seeds,
        also=_names(also),
        also_preset=also_preset or usual.also_preset,
        also_seeds=also_seeds,
        jobs=jobs,
        threads=threads,
        properties=properties,
        resume=resume,
    )
    return run_study(samples, out, quick_settings(settings) if quick else settings, options, terminal_talk())


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


@app.command()
@reports
def demo(
    out: OUT = Path("eigenfeatures-demo"),
    *,
    slices: Annotated[int, typer.Option(help="Slices a sample.", min=10)] = 64,
    size: Annotated[int, typer.Option(help="Side of a slice in pixels.", min=32)] = 96,
    iterations: Annotated[int, typer.Option(help="Training iterations.", min=1)] = 100,
    seed: Annotated[int, typer.Option(help="Seed of all that is random.", min=0)] = 0,
) -> Values:
    """Make four synthetic samples and do the main job on them.

    Example: eigenfeatures demo --out demo
    """
    from eigenfeatures.export.pipeline import demonstrate, summary

    folder = demonstrate(out, slices, size, iterations, seed, terminal_talk())
    return summary(folder)


@app.command()
@reports
def phantom(
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
    *,
    slices: Annotated[int, typer.Option(help="Slices a sample.", min=1)] = 266,
    size: Annotated[int, typer.Option(help="Side of a slice in pixels.", min=8)] = 266,
    hard: Annotated[
        bool, typer.Option("--hard", help="Let samples differ by 10 % in correlation length only.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of all that is random.", min=0)] = 0,
) -> Values:
    """Make synthetic samples in the shape of the paper's data: no measured data.

    Example: eigenfeatures phantom stacks --slices 64 --size 128
    """
    from eigenfeatures.export.pipeline import synthesise

    return synthesise(folder, slices, size, hard, seed, terminal_talk())


def main() -> None:
    """Run the command; exit with 0, with 2 for a user's mistake, with 1 for any other failure."""
    arguments = sys.argv[1:] or ["--help"]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal knows σ
    try:
        code = app(arguments, standalone_mode=False)
    except (InputError, typer.TyperException) as error:
        code = _fail(error, 2, arguments)
    except ModuleNotFoundError as error:  # what only some of the commands need, as torch
        code = _fail(InputError(install_advice(error)), 2, arguments)
    except Exception as error:  # the last resort, so that no user meets a traceback
        code = _fail(error, 1, arguments)
    sys.exit(code)


def _fail(error: Exception, code: int, arguments: list[str]) -> int:
    if "--debug" in arguments:
        raise error
    # Typer's own text of an error leaves out which option or argument it is about.
    text = error.format_message() if isinstance(error, typer.TyperException) else in_words(error)
    print_error(text or type(error).__name__)
    return code
