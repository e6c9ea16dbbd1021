"""Numba loops that fill the arrays which the public functions allocate."""
