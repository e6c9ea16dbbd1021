"""numba-cuda kernels that fill the arrays which the public functions allocate.

Nothing imports this package but a call that computes on a GPU, so `eigenfeatures.kernels`
needs neither numba-cuda nor CuPy.
"""
