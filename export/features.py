"""The step that measures every slice: α channels, singular values and eigenfeature stacks."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenfeatures.eigen.device import choose_device
from eigenfeatures.eigen.eigenfeature import (
    ALPHA_LAYERS,
    SINGULAR_VALUES,
    SliceFeatures,
    slice_features,
    write_eigenfeatures,
)
from eigenfeatures.eigen.model_file import Model
from eigenfeatures.eigen.responses import stride_of
from eigenfeatures.eigen.samples import SampleSet, Specimen
from eigenfeatures.eigen.stacks import VoxelSize
from eigenfeatures.export.run_folder import RunFolder
from eigenfeatures.export.settings import FEATURE_SETTINGS, Settings
from eigenfeatures.export.steps import fill_slices
from eigenfeatures.export.tables import read_table
from eigenfeatures.export.talk import Talk

_LARGEST_BLOCK = 4


def features_step(folder: RunFolder, samples: SampleSet, model: Model, talk: Talk) -> None:
    """Compute the features of every slice; write the eigenfeature stacks and fill ``slices.csv``."""
    settings = folder.settings
    # What fits in training fits here.
    block = min(_LARGEST_BLOCK, settings.plan.batch_size)
    rows: list[dict[str, Any]] = []
    for number, specimen in enumerate(samples.specimens):
        indices = np.flatnonzero(samples.specimen_of == number)
        blocks = slice_features(
            model,
            samples,
            indices,
            settings.layer,
            settings.resolution,
            device=choose_device(settings.device),
            seed=settings.seed,
            block=block,
        )
        shown = iter(talk.track(blocks, f"eigenfeatures of {specimen.name}", math.ceil(len(indices) / block)))
        first = next(shown)
        rank = min(settings.rank, first.svd.s.shape[-1])
        write_eigenfeatures(
            folder.eigenfeatures / f"{_stack_name(specimen)}.tif",
            _vectors(chain([first], shown), rank, rows),
            (len(indices), rank, *first.svd.u.shape[-2:]),
            map_voxel_size(folder, samples, model),
        )
    constant = ["constant" in names.split(";") for names in read_table(folder.slices)["flag"]]
    for row, is_constant in zip(rows, constant, strict=True):
        row["flag"] = ";".join(filter(None, ("constant" if is_constant else "", row["flag"])))
    fill_slices(folder, {name: [row[name] for row in rows] for name in rows[0]})
    # Not before, so that run.toml never names a layer that slices.csv is not of.
    folder.write_record()


def say_outdated(folder: RunFolder, before: Settings, talk: Talk) -> None:
    """Say which files of a run are still of its features as they were `before`."""
    changed = [name for name in FEATURE_SETTINGS if getattr(folder.settings, name) != getattr(before, name)]
    made_by = {"report": folder.report, "export": folder.onnx}
    old = {step: file.name for step, file in made_by.items() if file.is_file()}
    if changed and old:
        former = ", ".join(f"{name} = {getattr(before, name)}" for name in changed)
        steps = " and ".join(f"'eigenfeatures {step} {folder.path}'" for step in old)
        talk.say(f"{' and '.join(old.values())} in {folder.path} still have {former}; renew with {steps}")


def map_voxel_size(folder: RunFolder, samples: SampleSet, model: Model) -> VoxelSize | None:
    """Return the voxel size of the eigenfeature stacks; pooled maps are coarser within the slice."""
    voxel = voxel_size(folder.settings, samples)
    stride = 1 if folder.settings.resolution == "dense" else stride_of(model.network, folder.settings.layer)
    return None if voxel is None else replace(voxel, y=voxel.y * stride, x=voxel.x * stride)


def voxel_size(settings: Settings, samples: SampleSet) -> VoxelSize | None:
    """Return the voxel size that was set, or else what the files say."""
    edge = settings.voxel_size
    return samples.voxel_size if edge is None else VoxelSize(edge, edge, edge)


def _stack_name(specimen: Specimen) -> str:
    """Give the stacks of several specimens a folder, where no other sample's can be."""
    return specimen.name if specimen.source == specimen.sample else f"{specimen.sample}/{specimen.name}"


def _vectors(
    blocks: Iterable[SliceFeatures], rank: int, rows: list[dict[str, Any]]
) -> Iterator[NDArray[np.float32]]:
    """Give the singular vectors to the writer and keep the numbers for the table."""
    for block in blocks:
        for k, vectors in enumerate(block.svd.u):
            rows.append(_row(block, k))
            yield vectors[:rank]


def _row(block: SliceFeatures, k: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for layer in ALPHA_LAYERS:
        alpha = block.alpha[layer]
        row[f"alpha_{layer}"] = alpha.index[k]
        row[f"alpha_{layer}_maximum"] = alpha.maximum[k]
        row[f"alpha_{layer}_mean"] = alpha.mean[k]
        row[f"alpha_{layer}_positive_mean"] = alpha.positive_mean[k]
    values = block.svd.s[k]
    for position in range(SINGULAR_VALUES):
        row[f"sigma{position + 1}"] = values[position] if position < len(values) else None
    has_response = values[0] > 0
    row["sigma2_over_sigma1"] = values[1] / values[0] if has_response and len(values) > 1 else None
    row["energy1"] = np.float64(values[0]) ** 2 / block.svd.energy[k] if has_response else None
    row["residual"] = block.svd.residual[k]
    row["flag"] = block.flags[k]
    return row
