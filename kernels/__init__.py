"""Compiled kernels for slices of X-ray CT: gradients, statistics, truncated SVD."""
