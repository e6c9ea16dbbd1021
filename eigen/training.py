"""Stochastic gradient descent as in section 2.3, resumable to the same result.

All that is random (order, flips, dropout) is drawn from the seed and the number
of the iteration or epoch, so that weights and that number are the whole state.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from eigenfeatures.eigen.choices import AUGMENTATIONS, LABELS
from eigenfeatures.eigen.device import training_precision
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.model_file import write_tensors
from eigenfeatures.eigen.network import Network
from eigenfeatures.eigen.preprocessing import Preprocessing
from eigenfeatures.eigen.progress import Track, silent
from eigenfeatures.eigen.samples import SampleSet
from eigenfeatures.eigen.training_plan import TrainingPlan

VALIDATION_INTERVAL = 5
_POPULATION_SLICES = 128


class TrainingDivergedError(InputError):
    """The loss is no longer finite."""


@dataclass(frozen=True)
class TrainingStep:
    """One row of ``training.csv``; losses are batch means of J (eq. 10), None where not validated."""

    iteration: int
    epoch: int
    training_loss: float
    training_accuracy: float
    penalty: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None


def train(
    network: Network,
    samples: SampleSet,
    preprocessing: Preprocessing,
    training: NDArray[np.int64],
    validation: NDArray[np.int64],
    plan: TrainingPlan,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    snapshot: Callable[[int, Network], None] | None = None,
    track: Track = silent,
) -> list[TrainingStep]:
    """Train a network in place.

    Parameters
    ----------
    network
        Freshly built; on return it is on the CPU, in evaluation mode.
    samples, preprocessing
        Where slices come from, and what is done to them.
    training, validation
        Indices of slices.
    plan
        The hyperparameters.
    device
        Where to train.
    checkpoint
        A file to continue from if it exists, and to write at every validation.
    snapshot
        Called with the number of the iteration and the network as it is validated: before the
        first iteration (0, the untrained network) and at every validation.
    track
        Shows progress.

    Returns
    -------
    list of TrainingStep
        One an iteration, from the first, also after a continuation.

    Raises
    ------
    InputError
        For an unknown augmentation or kind of labels, a batch larger than the training set, or a
        checkpoint of another network; `TrainingDivergedError` where the loss is no longer finite.
    """
    if plan.augment not in AUGMENTATIONS:
        raise InputError(f"augment '{plan.augment}' is unknown; choose one of {', '.join(AUGMENTATIONS)}")
    labels = _labels(samples, training, plan)
    check_batch_size(plan.batch_size, len(training))
    history = _load_checkpoint(checkpoint, network) if checkpoint and checkpoint.exists() else []
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = _optimiser(network, plan)
    if snapshot and not history:
        estimate_population(network, samples, preprocessing, training, plan.batch_size, device)
        snapshot(0, network)
    remaining = range(len(history) + 1, plan.iterations + 1)
    if _stops_early(history, plan.early_stop):
        remaining = range(0)
    for iteration in track(remaining, "training", len(remaining)):
        batch = _batch(samples, labels, preprocessing, training, plan, iteration, device)
        step = _descend(network, optimiser, *batch, plan, iteration, len(training) // plan.batch_size)
        if iteration % VALIDATION_INTERVAL == 0 or iteration == plan.iterations:
            estimate_population(network, samples, preprocessing, training, plan.batch_size, device)
            loss, accuracy = _validate(network, samples, preprocessing, validation, plan.batch_size, device)
            _check_finite(loss, iteration)
            history.append(replace(step, validation_loss=loss, validation_accuracy=accuracy))
            if snapshot:
                snapshot(iteration, network)
            if checkpoint:
                _save_checkpoint(checkpoint, network, history)
            if _stops_early(history, plan.early_stop):
                break
        else:
            history.append(step)
    network.to("cpu").eval()
    return history


def check_batch_size(batch_size: int, slices: int) -> None:
    """Raise `InputError` where a batch is larger than the number of slices to train on."""
    if batch_size > slices:
        raise InputError(
            f"batch size {batch_size} is larger than the {slices} slices to train on; "
            f"use --batch-size {slices} or less"
        )


def _labels(samples: SampleSet, training: NDArray[np.int64], plan: TrainingPlan) -> NDArray[np.int64]:
    """Return the class number of every slice that the training goes by."""
    if plan.labels not in LABELS:
        raise InputError(f"labels '{plan.labels}' are unknown; choose one of {', '.join(LABELS)}")
    if plan.labels == "true":
        return samples.label
    labels = samples.label.copy()
    labels[training] = np.random.default_rng([plan.seed, 4]).permutation(labels[training])
    return labels


def _optimiser(network: Network, plan: TrainingPlan) -> torch.optim.SGD:
    # The gradient of λ/2 ‖w‖² (eq. 12) is λw: SGD's weight decay, where there is no momentum.
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for module in network.children():
        for name, parameter in module.named_parameters():
            is_weight = name == "weight" and not isinstance(module, nn.BatchNorm2d)
            (decayed if is_weight else free).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": plan.l2},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=plan.learning_rate)


def _batch(
    samples: SampleSet,
    labels: NDArray[np.int64],
    preprocessing: Preprocessing,
    training: NDArray[np.int64],
    plan: TrainingPlan,
    iteration: int,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    epoch, position = divmod(iteration - 1, len(training) // plan.batch_size)
    order = np.random.default_rng([plan.seed, 1, epoch]).permutation(len(training))
    chosen = training[order[position * plan.batch_size :][: plan.batch_size]]
    slices = samples.read(chosen)
    if plan.augment == "flips":
        flips = np.random.default_rng([plan.seed, 2, iteration]).integers(0, 2, (len(slices), 2), dtype=bool)
        # Raw slices are flipped: a one-sided difference is not equivariant.
        flipped = [
            np.flip(image, tuple(np.flatnonzero(flip))) for image, flip in zip(slices, flips, strict=True)
        ]
        slices = np.stack(flipped)
    return _to_tensor(preprocessing(slices), device), torch.from_numpy(labels[chosen]).to(device)


def _to_tensor(images: NDArray[np.float32], device: torch.device) -> Tensor:
    return torch.from_numpy(images)[:, None].to(device, memory_format=torch.channels_last)


def _descend(
    network: Network,
    optimiser: torch.optim.SGD,
    images: Tensor,
    labels: Tensor,
    plan: TrainingPlan,
    iteration: int,
    iterations_per_epoch: int,
) -> TrainingStep:
    device = images.device
    network.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.default_rng([plan.seed, 3, iteration]).integers(2**62)))
        with training_precision(device):
            logits = network(images).float()
    loss = functional.cross_entropy(logits, labels)
    _check_finite(float(loss.detach()), iteration)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    penalty = (
        0.5 * plan.l2 * sum(float(w.detach().square().sum()) for w in optimiser.param_groups[0]["params"])
    )
    optimiser.step()
    return TrainingStep(
        iteration=iteration,
        epoch=1 + (iteration - 1) // iterations_per_epoch,
        training_loss=float(loss.detach()),
        training_accuracy=int((logits.argmax(1) == labels).sum()) / len(labels),
        penalty=penalty,
    )


def _check_finite(loss: float, iteration: int) -> None:
    if not math.isfinite(loss):
        raise TrainingDivergedError(
            f"the training loss is no longer finite at iteration {iteration}; use a smaller --learning-rate"
        )


@torch.inference_mode()
def estimate_population(
    network: Network,
    samples: SampleSet,
    preprocessing: Preprocessing,
    training: NDArray[np.int64],
    batch_size: int,
    device: torch.device,
) -> None:
    """Estimate μ and σ of eq. 6 on training slices with the weights as they are now.

    A running mean over the last batches lags behind weights that change as fast as
    they do in the first tens of iterations: on a phantom it took the validation
    accuracy of a trained network from 0.86 to 0.25.
    """
    network.eval()
    for module in network.children():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.train()
    chosen = training[np.unique(np.linspace(0, len(training) - 1, _POPULATION_SLICES).astype(np.int64))]
    # Strided, so that every batch holds slices of all samples.
    batches = max(1, len(chosen) // batch_size)
    for start in range(batches):
        images = _to_tensor(preprocessing(samples.read(chosen[start::batches])), device)
        with training_precision(device):
            network(images)
    network.eval()


@torch.inference_mode()
def _validate(
    network: Network,
    samples: SampleSet,
    preprocessing: Preprocessing,
    validation: NDArray[np.int64],
    batch_size: int,
    device: torch.device,
) -> tuple[float, float]:
    network.eval()
    loss, correct = 0.0, 0
    for chosen in _blocks(validation, batch_size):
        labels = torch.from_numpy(samples.label[chosen]).to(device)
        with training_precision(device):
            logits = network(_to_tensor(preprocessing(samples.read(chosen)), device)).float()
        loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
        correct += int((logits.argmax(1) == labels).sum())
    return loss / len(validation), correct / len(validation)


def _blocks(indices: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def _stops_early(history: list[TrainingStep], patience: int | None) -> bool:
    losses = [step.validation_loss for step in history if step.validation_loss is not None]
    return (
        patience is not None and len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])
    )


def _save_checkpoint(path: Path, network: Network, history: list[TrainingStep]) -> None:
    write_tensors(path, network.tensors(), {"history": json.dumps([asdict(step) for step in history])})


def _load_checkpoint(path: Path, network: Network) -> list[TrainingStep]:
    try:
        with safe_open(path, framework="pt") as file:
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            return [TrainingStep(**step) for step in json.loads(file.metadata()["history"])]
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a checkpoint of this network; delete it to train anew") from error
