"""Shuffled labels teach nothing, snapshots don't change a training, divergence has an error of its own."""

from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from eigenfeatures.eigen import training
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.snapshots import save_snapshot, snapshot_iterations, snapshot_path
from eigenfeatures.eigen.training import TrainingDivergedError, TrainingPlan, estimate_population, train

CPU = torch.device("cpu")
PLAN = TrainingPlan(iterations=12, batch_size=6, learning_rate=0.05, l2=0.01)
SHUFFLED = replace(PLAN, labels="shuffled")


def fresh(seed=1):
    return build_network("small", 4, (40, 40), seed=seed)


def fit(data, plan=PLAN, seed=1, **options):
    network = fresh(seed)
    return network, train(network, *data, plan, device=CPU, **options)


def assert_same_weights(first, second):
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert list(first) == list(second)


def test_shuffled_labels_are_those_of_the_training_part_in_another_order(data):
    samples, _, members, _ = data
    members = members[5:-3]  # of classes of unequal size, as behind a guard
    labels = training._labels(samples, members, SHUFFLED)
    true = samples.label
    np.testing.assert_array_equal(np.bincount(labels[members]), np.bincount(true[members]))
    others = np.setdiff1d(np.arange(len(samples)), members)
    np.testing.assert_array_equal(labels[others], true[others])
    # About a quarter of four classes keep theirs by chance.
    assert 0.05 < np.mean(labels[members] == true[members]) < 0.5
    assert training._labels(samples, members, PLAN) is true
    np.testing.assert_array_equal(true, np.repeat(np.arange(4), 16))  # the samples' own are as they were


def test_shuffled_labels_come_from_the_seed(data):
    samples, _, members, _ = data
    first, same, other = (
        training._labels(samples, members, replace(SHUFFLED, seed=seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert np.any(first != other)


def test_batches_have_the_shuffled_labels(data):
    samples, preprocessing, members, _ = data
    labels = training._labels(samples, members, SHUFFLED)
    images, found = training._batch(samples, labels, preprocessing, members, SHUFFLED, 1, CPU)
    true_images, true = training._batch(samples, samples.label, preprocessing, members, PLAN, 1, CPU)
    assert torch.equal(images, true_images)
    assert not torch.equal(found, true)


def test_the_same_seed_trains_to_the_same_bits_with_shuffled_labels(data):
    first, same, true = (fit(data, plan)[0].state_dict() for plan in (SHUFFLED, SHUFFLED, PLAN))
    assert_same_weights(first, same)
    assert not torch.equal(first["conv1.weight"], true["conv1.weight"])


def test_a_network_trained_on_shuffled_labels_knows_nothing_of_the_true_ones(data):
    """On validation slices; the same training with true labels learns them."""
    reached = {}
    for labels in ("true", "shuffled"):
        plan = TrainingPlan(iterations=40, batch_size=12, learning_rate=0.05, l2=0.01, labels=labels)
        ends = [fit(data, replace(plan, seed=seed), seed)[1][-1] for seed in (0, 1)]
        reached[labels] = (
            np.mean([end.validation_accuracy for end in ends]),
            np.mean([end.validation_loss for end in ends]),
        )
    accuracy, loss = reached["shuffled"]
    assert accuracy < 0.45
    assert loss > 0.9 * np.log(4)
    accuracy, loss = reached["true"]
    assert accuracy > 0.55
    assert loss < 0.8 * np.log(4)


def watched(data, plan=PLAN, **options):
    """Train and return what the hook saw: iteration and a copy of the network."""
    seen = []
    network, history = fit(
        data, plan, snapshot=lambda iteration, now: seen.append((iteration, deepcopy(now))), **options
    )
    return network, history, dict(seen)


def test_the_hook_is_called_before_the_training_and_at_every_validation(data):
    network, history, seen = watched(data)
    assert list(seen) == [0, *(step.iteration for step in history if step.validation_loss is not None)]
    assert list(seen) == [0, 5, 10, 12]
    assert_same_weights(seen[12].state_dict(), network.state_dict())
    assert not torch.equal(seen[0].conv1.weight, seen[5].conv1.weight)


def test_early_stop_ends_the_snapshots_too(data):
    plan = replace(PLAN, iterations=60, learning_rate=1e-12, early_stop=2)
    _, history, seen = watched(data, plan)
    assert max(seen) == len(history) < 60


def test_the_hook_sees_statistics_of_the_weights_as_they_are(data):
    """They are those that another estimate gives, and not those of a new network."""
    samples, preprocessing, members, _ = data
    for network in watched(data)[2].values():
        again = deepcopy(network)
        for module in again.children():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean += 1
        estimate_population(again, samples, preprocessing, members, PLAN.batch_size, CPU)
        assert_same_weights(network.state_dict(), again.state_dict())
        assert not torch.equal(network.norm1.running_var, torch.ones(16))


def test_the_first_snapshot_is_a_fresh_network_with_its_statistics(data):
    samples, preprocessing, members, _ = data
    expected = fresh().to(memory_format=torch.channels_last)
    estimate_population(expected, samples, preprocessing, members, PLAN.batch_size, CPU)
    assert_same_weights(watched(data)[2][0].state_dict(), expected.state_dict())


def test_the_first_layers_alone_have_the_same_statistics(data):
    """So that an untrained network's need not be estimated behind the layer that is looked at."""
    samples, preprocessing, members, _ = data
    part = fresh().up_to("relu2")
    estimate_population(part, samples, preprocessing, members, PLAN.batch_size, CPU)
    whole = watched(data)[2][0].state_dict()
    for name, tensor in part.state_dict().items():
        # Memory in another order is summed in another; on some processors in bfloat16.
        torch.testing.assert_close(tensor, whole[name], rtol=0.02, atol=0.02)


def test_the_hook_does_not_change_what_is_trained(data, tmp_path):
    plain, watching = tmp_path / "plain.safetensors", tmp_path / "watching.safetensors"
    network, history = fit(data, checkpoint=plain)
    images = torch.randn(6, 1, 40, 40)

    def meddling(iteration, now):
        save_snapshot(tmp_path / "snapshots", "relu2", iteration, now)
        with torch.inference_mode():
            now.up_to("relu3")(images)
        torch.rand(3)

    same, same_history = fit(data, checkpoint=watching, snapshot=meddling)
    assert same_history == history
    assert_same_weights(network.state_dict(), same.state_dict())
    assert watching.read_bytes() == plain.read_bytes()


def test_a_resumed_training_makes_the_snapshots_of_an_unbroken_one(data, tmp_path):
    class Kill(Exception):
        pass

    def killer(items, _description, _total):
        for count, item in enumerate(items):
            if count == 7:
                raise Kill
            yield item

    unbroken, resumed = tmp_path / "unbroken", tmp_path / "resumed"
    fit(data, snapshot=partial(save_snapshot, unbroken, "relu2"))
    options = {"checkpoint": tmp_path / "checkpoint.safetensors"}
    with pytest.raises(Kill):
        fit(data, snapshot=partial(save_snapshot, resumed, "relu2"), track=killer, **options)
    assert snapshot_iterations(resumed) == [0, 5]
    assert list(watched(data, **options)[2]) == [10, 12]
    options["checkpoint"].unlink()
    with pytest.raises(Kill):
        fit(data, track=killer, **options)
    fit(data, snapshot=partial(save_snapshot, resumed, "relu2"), **options)
    assert snapshot_iterations(resumed) == [0, 5, 10, 12]
    for iteration in (0, 5, 10, 12):
        assert (
            snapshot_path(resumed, iteration).read_bytes() == snapshot_path(unbroken, iteration).read_bytes()
        )


def test_the_hook_gets_the_network_in_evaluation_mode(data):
    for iteration, network in watched(data)[2].items():
        assert not [name for name, module in network.named_modules() if module.training], iteration


def test_a_loss_that_is_no_longer_finite_has_an_error_of_its_own(data):
    with pytest.raises(
        TrainingDivergedError, match=r"no longer finite at iteration \d+; use a smaller --lea"
    ):
        fit(data, replace(PLAN, learning_rate=1e30))
    assert issubclass(TrainingDivergedError, InputError)  # one line for a user who trains a single network


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_validation_loss_that_is_not_finite_ends_the_training_before_anything_is_kept(
    data, tmp_path, monkeypatch, loss
):
    """Weights that answer with no number are neither a checkpoint nor a snapshot."""
    real, losses = training._validate, iter([None, loss])

    def validate(*arguments):
        found, planned = real(*arguments), next(losses)
        return found if planned is None else (planned, found[1])

    monkeypatch.setattr(training, "_validate", validate)
    checkpoint, seen = tmp_path / "checkpoint.safetensors", []
    with pytest.raises(TrainingDivergedError, match="no longer finite at iteration 10; use a smaller"):
        fit(data, checkpoint=checkpoint, snapshot=lambda iteration, _: seen.append(iteration))
    assert seen == [0, 5]
    monkeypatch.setattr(training, "_validate", real)
    assert list(watched(data, checkpoint=checkpoint)[2]) == [10, 12]  # it goes on behind iteration 5


def test_other_mistakes_are_no_divergence(data):
    """A study goes on after the one and ends at the others."""
    for plan in (
        replace(PLAN, batch_size=64),
        replace(PLAN, labels="none"),
        replace(PLAN, augment="rotate"),
    ):
        with pytest.raises(InputError) as caught:
            fit(data, plan)
        assert not isinstance(caught.value, TrainingDivergedError)
