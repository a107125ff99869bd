"""Numerical kernels: NumPy and SciPy only, no knowledge of problems or models."""
