"""Training does what section 2.3 and eq. 10 and 12 say, and a resumed one ends where an unbroken one does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from eigenfeatures.eigen import device, training
from eigenfeatures.eigen.errors import InputError
from eigenfeatures.eigen.network import build_network
from eigenfeatures.eigen.training import TrainingPlan, train

CPU = torch.device("cpu")
PLAN = TrainingPlan(iterations=12, batch_size=6, learning_rate=0.05, l2=0.01)


def fit(data, plan=PLAN, **options):
    network = build_network("small", 4, (40, 40), seed=1)
    history = train(network, *data, plan, device=CPU, **options)
    return network, history


def weights(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_one_step_is_gradient_descent_on_eq_12(data, monkeypatch):
    """w ← w − η (∂J/∂w + λ w) for weights, w ← w − η ∂J/∂w for biases and batch normalisation."""
    samples, preprocessing, members, _ = data
    plan = replace(PLAN, iterations=1, augment="none", l2=0.3)
    # Without dropout the gradient can be computed here in another way, and to float32's digits where
    # the processor would train in bfloat16.
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda _, images: images)
    monkeypatch.setattr(device, "trains_in_bfloat16", lambda _: False)
    reference = build_network("small", 4, (40, 40), seed=1).train()
    order = np.random.default_rng([plan.seed, 1, 0]).permutation(len(members))[: plan.batch_size]
    images = torch.from_numpy(preprocessing(samples.read(members[order])))[:, None]
    labels = torch.from_numpy(samples.label[members[order]])
    loss = -torch.log_softmax(reference(images), 1)[torch.arange(len(labels)), labels].mean()
    names, parameters = zip(*reference.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters)
    network, history = fit(data, plan)
    found = dict(network.named_parameters())
    for name, before, gradient in zip(names, parameters, gradients, strict=True):
        decay = 0.3 * before if name.startswith(("conv", "logits")) and name.endswith("weight") else 0.0
        expected = before - plan.learning_rate * (gradient + decay)
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-6)
    assert history[0].training_loss == pytest.approx(float(loss.detach()), rel=1e-5)
    squares = sum(
        float((p.detach() ** 2).sum()) for n, p in zip(names, parameters, strict=True) if p.ndim > 1
    )
    assert history[0].penalty == pytest.approx(0.15 * squares, rel=1e-5)


def test_history_has_a_row_an_iteration_and_validates_every_fifth_and_the_last(data):
    network, history = fit(data)
    assert [step.iteration for step in history] == list(range(1, 13))
    assert [step.iteration for step in history if step.validation_loss is not None] == [5, 10, 12]
    per_epoch = len(data[2]) // PLAN.batch_size  # the incomplete batch is dropped
    assert [step.epoch for step in history] == [1 + (k // per_epoch) for k in range(12)]
    assert not network.training


def test_validation_is_that_of_the_network_in_evaluation_mode(data, monkeypatch):
    """In float32, since in bfloat16 how far both are apart depends on the number of torch's threads."""
    monkeypatch.setattr(device, "trains_in_bfloat16", lambda _: False)
    samples, preprocessing, _, held_out = data
    network, history = fit(data)
    with torch.inference_mode():
        logits = network(torch.from_numpy(preprocessing(samples.read(held_out)))[:, None])
    labels = torch.from_numpy(samples.label[held_out])
    assert history[-1].validation_loss == pytest.approx(
        float(functional.cross_entropy(logits, labels)), rel=1e-5
    )
    assert history[-1].validation_accuracy == int((logits.argmax(1) == labels).sum()) / len(labels)


def test_each_epoch_visits_a_slice_at_most_once_and_another_order_follows(data, monkeypatch):
    samples, *_ = data
    read: list[np.ndarray] = []
    original = type(samples).read

    def recording(self, indices):
        read.append(np.asarray(indices))
        return original(self, indices)

    monkeypatch.setattr(type(samples), "read", recording)
    monkeypatch.setattr(training, "estimate_population", lambda *_: None)
    fit(data, replace(PLAN, iterations=14))
    batches = [
        indices for indices in read if len(indices) == PLAN.batch_size and set(indices) <= set(data[2])
    ]
    per_epoch = len(data[2]) // PLAN.batch_size
    first, second = (np.concatenate(batches[k * per_epoch :][:per_epoch]) for k in (0, 1))
    assert len(set(first)) == len(first) == len(set(second))
    assert list(first) != list(second)


def test_same_seed_same_weights_other_seed_other_weights(data):
    first, same, other = (weights(fit(data, replace(PLAN, seed=seed))[0]) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


@pytest.mark.parametrize("killed_at", [5, 7, 10])
def test_resumed_training_ends_with_the_same_bits(data, tmp_path, killed_at):
    expected, history = fit(data)
    checkpoint = tmp_path / "checkpoint.safetensors"

    class Kill(Exception):
        pass

    def killer(items, _description, _total):
        for count, item in enumerate(items):
            if count == killed_at:
                raise Kill
            yield item

    with pytest.raises(Kill):
        fit(data, checkpoint=checkpoint, track=killer)
    network, resumed = fit(data, checkpoint=checkpoint)
    assert resumed == history
    assert all(
        torch.equal(tensor, network.state_dict()[name]) for name, tensor in expected.state_dict().items()
    )


def test_flips_change_the_batches_and_only_flip(data):
    samples, preprocessing, members, _ = data
    plain, labels = training._batch(
        samples, samples.label, preprocessing, members, replace(PLAN, augment="none"), 1, CPU
    )
    flipped, same_labels = training._batch(samples, samples.label, preprocessing, members, PLAN, 1, CPU)
    assert torch.equal(labels, same_labels)
    kinds = set()
    for before, after in zip(plain, flipped, strict=True):
        candidates = [before, before.flip(1), before.flip(2), before.flip(1, 2)]
        matches = [k for k, image in enumerate(candidates) if torch.allclose(image, after, atol=1e-5)]
        assert len(matches) == 1
        kinds.update(matches)
    assert len(kinds) > 1


def test_early_stop_ends_when_the_loss_no_longer_falls(data):
    # A learning rate that can't learn: no validation improves by training.
    plan = replace(PLAN, iterations=60, learning_rate=1e-12, early_stop=2)
    _, history = fit(data, plan)
    losses = [step.validation_loss for step in history if step.validation_loss is not None]
    assert len(history) < 60
    assert min(losses[-2:]) >= min(losses[:-2])


def test_mistakes_are_refused(data, tmp_path):
    with pytest.raises(
        InputError, match=r"batch size 64 is larger than the \d+ slices to train on; use --batch-size"
    ):
        fit(data, replace(PLAN, batch_size=64))
    with pytest.raises(InputError, match="augment 'rotate' is unknown; choose one of flips, none"):
        fit(data, replace(PLAN, augment="rotate"))
    with pytest.raises(InputError, match="labels 'mixed' are unknown; choose one of true, shuffled"):
        fit(data, replace(PLAN, labels="mixed"))
    broken = tmp_path / "checkpoint.safetensors"
    broken.write_bytes(b"not a checkpoint at all")
    with pytest.raises(InputError, match="is not a checkpoint of this network; delete it"):
        fit(data, checkpoint=broken)
