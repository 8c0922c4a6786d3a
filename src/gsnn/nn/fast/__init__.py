"""Compiled kernels for blocks, used where numba is installed."""
