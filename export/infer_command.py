"""The command ``eigenfeatures infer`` and its options."""

from pathlib import Path
from typing import Annotated

import typer

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.console import terminal_talk
from eigenfeatures.export.options import RESUME, Values, given_options, reports


@reports
def infer(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="Folder of a run, or an exported .onnx file.")],
    stacks: Annotated[
        list[Path] | None,
        typer.Argument(help="Stacks of any length, or folders of them; none for the run's own slices."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the results on stacks.")] = None,
    *,
    outputs: Annotated[
        str | None, typer.Option(help="Comma-separated outputs; by default all but response maps.")
    ] = None,
    axis: Annotated[int, typer.Option(help="Axis of the stack along which the slices lie: 0, 1, 2.")] = 0,
    roi: Annotated[str | None, typer.Option(help="Part of each slice: top,left,height,width.")] = None,
    every: Annotated[int, typer.Option(help="Take every N-th slice only.")] = 1,
    overlap: Annotated[
        float | None, typer.Option(help="Of windows over slices larger than the model's (default: 0.5).")
    ] = None,
    shape: Annotated[str | None, typer.Option(help="Of a raw file: slices,height,width.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Of a raw file, such as uint16 or >u2.")] = None,
    voxel_size: Annotated[
        str | None,
        typer.Option(
            help="Of voxels in µm: one edge, or Z,Y,X with Z across slices (default: as files say)."
        ),
    ] = None,
    missing: Annotated[
        str,
        typer.Option(
            help="NaN, infinity, chunks that a Zarr or HDF5 file lacks: refuse, or fill and report."
        ),
    ] = "refuse",
    batch_size: Annotated[int | None, typer.Option(help="Slices that the model gets at once.")] = None,
    max_memory: Annotated[
        str | None, typer.Option(help="Memory for all, such as 4GB; by default half of what is free.")
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, ort-cpu, ort-cuda or torch.")] = "auto",
    device: Annotated[
        str | None, typer.Option(help="auto, cpu or cuda (default: auto, or the run's own).")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads that the model computes with; on a cluster, in each worker.")
    ] = None,
    tf32: Annotated[
        bool,
        typer.Option(
            "--tf32",
            help="Let a GPU's convolutions and matrix products round factors to 10 bits: faster; "
            "says what that changes.",
        ),
    ] = False,
    format: Annotated[str, typer.Option(help="Of volumes of maps: zarr or tiff.")] = "zarr",
    resume: RESUME = False,
    profile: Annotated[bool, typer.Option("--profile", help="Write trace.json for Perfetto.")] = False,
    cluster: Annotated[
        str | None,
        typer.Option(help="Compute in N processes, local:N, or on Dask's scheduler at tcp://host:port."),
    ] = None,
) -> Values:
    """Run a model over stacks of any length, or classify a run's own slices.

    Example: eigenfeatures infer run1

    Example: eigenfeatures infer run1 scan.tif more_stacks/ --out results --max-memory 4GB

    Example: eigenfeatures infer model.onnx scan.tif --out results --outputs probabilities,eigenfeatures
    """
    if not stacks or out is None:
        if stacks or out is not None:
            raise InputError("STACKS and --out go together: give both to infer other stacks, or neither")
        if others := given_options(context, besides=("model", "device", "json", "debug")):
            raise InputError(f"{others[0]} is for other stacks; give STACKS and --out too, or leave it out")
        return _infer_own(model, device)
    from eigenfeatures.export.batch.options import Options, read_reading
    from eigenfeatures.export.batch.to_folder import infer_to_folder
    from eigenfeatures.export.outputs import parse_outputs

    options = Options(
        outputs=None if outputs is None else parse_outputs(outputs),
        batch=batch_size,
        max_memory=max_memory,
        engine=engine,
        device=device or "auto",
        tf32=tf32,
        threads=threads,
        format=format,
        resume=resume,
        profile=profile,
        cluster=cluster,
        reading=read_reading(axis, roi, every, shape, dtype, missing, overlap, voxel_size),
    )
    return infer_to_folder(model, stacks, out, options, terminal_talk())


def _infer_own(run: Path, device: str | None) -> Values:
    from eigenfeatures.export.pipeline import summary
    from eigenfeatures.export.steps import infer_step, open_run

    talk = terminal_talk()
    with open_run(run, talk, device=device) as (folder, samples, _):
        infer_step(folder, samples, talk)
    return summary(folder)
