"""The hyperparameters of a training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingPlan:
    """The hyperparameters; the defaults are the paper's.

    Attributes
    ----------
    iterations : int
        Steps of gradient descent.
    batch_size : int
        Slices a step; the last incomplete batch of an epoch is dropped.
    learning_rate : float
        Of plain gradient descent, without momentum.
    l2 : float
        λ of eq. 12, on weights, not on biases or batch normalisation.
    augment : str
        ``flips``: each slice is mirrored and turned upside down at random; or ``none``.
    early_stop : int or None
        Stop after so many validations without a smaller validation loss.
    labels : str
        ``true``, or ``shuffled``: a null model, in which the slices of the training part get
        each other's labels. The validation part keeps its own.
    seed : int
        Of order, flips, dropout and shuffled labels.
    """

    iterations: int = 70
    batch_size: int = 64
    learning_rate: float = 1e-2
    l2: float = 0.1
    augment: str = "flips"
    early_stop: int | None = None
    labels: str = "true"
    seed: int = 0
