"""What takes more than one posterior: weights, sweeps, replicates, data left out, refits."""
