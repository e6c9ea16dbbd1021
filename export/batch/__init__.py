"""Batch inference: a model over stacks larger than memory, in blocks, restartable."""
