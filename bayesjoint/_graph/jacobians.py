"""The actions of a Jacobian that is given as matrices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bayesjoint._graph.outputs import MapFault, action


@dataclass(frozen=True, eq=False)
class JacobianActions:
    """The actions of a Jacobian, one matrix for each latent; a plain value, so it pickles.

    The matrices of the last point are kept: its actions are asked row by row.
    """

    jacobian: Callable
    name: str
    latents: tuple[str, ...]
    last: list[tuple[Any, list[np.ndarray]]] = field(default_factory=list)

    def blocks(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the matrices, checked, each of shape (data, size of the latent)."""
        key = [(np.shape(v), np.asarray(v).tobytes()) for v in values]
        for known, matrices in self.last:
            if known == key:
                return matrices
        matrices = self._checked(self.jacobian(*(np.array(v) for v in values)), values)
        self.last[:] = [(key, matrices)]
        return matrices

    def _checked(self, matrices: Any, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        if matrices is None:
            raise MapFault(f"map {self.name!r}: jacobian returned None; is a return missing?")
        if len(self.latents) == 1 and not isinstance(matrices, (list, tuple)):
            matrices = [matrices]
        matrices = [self._matrix(matrix) for matrix in matrices]
        if len(matrices) != len(self.latents):
            raise MapFault(
                f"map {self.name!r}: the Jacobian has {len(matrices)} blocks for the latents "
                f"{self.latents}; one matrix for each is needed"
            )
        for latent, matrix, value in zip(self.latents, matrices, values, strict=True):
            if matrix.ndim != 2 or matrix.shape[1] != np.size(value):
                raise MapFault(
                    f"map {self.name!r}: the Jacobian for {latent!r} has shape {matrix.shape}; "
                    f"(data, {np.size(value)}) is needed, one column an element in C order"
                )
        return matrices

    def _matrix(self, matrix: Any) -> np.ndarray:
        return np.atleast_2d(action(self.name, "jacobian", matrix)).astype(float, copy=False)

    def jvp(self, values: Sequence[np.ndarray], tangents: Sequence[np.ndarray]) -> np.ndarray:
        """Return the Jacobian times tangents, one a latent."""
        products = [m @ np.ravel(t) for m, t in zip(self.blocks(values), tangents, strict=True)]
        return sum(products[1:], start=products[0])

    def vjp(self, values: Sequence[np.ndarray], cotangent: np.ndarray) -> list[np.ndarray]:
        """Return the transposed Jacobian times a cotangent, one array a latent."""
        matrices = self.blocks(values)
        for latent, matrix in zip(self.latents, matrices, strict=True):
            if matrix.shape[0] != cotangent.size:
                raise MapFault(
                    f"map {self.name!r}: the Jacobian for {latent!r} has {matrix.shape[0]} rows, "
                    f"the output {cotangent.size} elements; one row each"
                )
        return [
            (m.T @ cotangent).reshape(np.shape(v)) for m, v in zip(matrices, values, strict=True)
        ]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "last": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
