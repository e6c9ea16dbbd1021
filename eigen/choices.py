"""What settings may be chosen from; without torch, which takes seconds to import."""

PRESETS = ("paper", "reduced", "alexnet", "small")
"""The networks."""

RESOLUTIONS = ("pooled", "dense")
"""Of response maps."""

AUGMENTATIONS = ("flips", "none")
LABELS = ("true", "shuffled")
"""Of the slices in training."""

DEVICES = ("auto", "cpu", "cuda")
"""Where a network runs."""
