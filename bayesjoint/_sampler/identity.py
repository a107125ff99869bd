"""What tells one problem from another: digests that a store keeps of the one it was made for."""

import hashlib

import numpy as np

from bayesjoint._compiled.functions import ModelFunctions


def layout(functions: ModelFunctions) -> str:
    """Return a digest of names, shapes, coordinates and units."""
    problem = functions.problem
    digest = hashlib.sha256(repr((functions.names, functions.shapes)).encode())
    labels = dict(problem.coords)
    for name, latent in problem.latent.items():
        digest.update(repr((name, latent.units or "")).encode())
    for name, array in problem.labelled_data.items():
        units = str(array.attrs.get("units", ""))
        digest.update(repr((name, array.dims, array.shape, units)).encode())
        labels |= {f"{name} {label}": values for label, values in array.coords.items()}
    for name, values in labels.items():
        digest.update(repr((name, values.dims, values.values.tolist())).encode())
    return digest.hexdigest()


def fingerprint(functions: ModelFunctions, point: np.ndarray) -> str:
    """Return a digest of the data, and of the log density at a point."""
    digest = hashlib.sha256()
    digest.update(functions.data.tobytes())
    for modality in functions.problem.modalities:
        if modality.whole is not modality:
            digest.update(modality.places.tobytes())
    digest.update(f"{float(functions.density(point)[0]):.8e}".encode())
    return digest.hexdigest()
