"""Runs of NUTS: warm-up, chains, coordinates from the spectrum, checkpoints, progress."""
