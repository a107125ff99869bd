"""Errors of modalities at shared places, at any correlation between the modalities.

Mode by mode of the process that they share, so that the data may be many.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayesjoint._kernels.cross_correlation import CrossModes, lost
from bayesjoint._kernels.modal_errors import ModalErrors
from bayesjoint._kernels.modes import Modes
from bayesjoint._kernels.singular import SingularErrors


@dataclass(frozen=True, eq=False)
class SharedErrors:
    """A discrepancy at shared places whose correlations vary, and all other errors.

    Parameters
    ----------
    modes : Modes
        Of the unit process at the n places.
    sds : ndarray, shape (p,)
        Of the discrepancy, in each of its p modalities.
    members : tuple of int
        Which of all modalities these are.
    errors : ErrorCovariance or JoinedErrors
        All others; of the members the independent noise alone.
    names : tuple of str
        Of the members, for messages.
    """

    modes: Modes
    sds: np.ndarray
    members: tuple[int, ...]
    errors: Any
    names: tuple[str, ...]

    def cross_modes(
        self,
        base: np.ndarray,
        direction: np.ndarray,
        sd_factors: np.ndarray,
        jacobian: np.ndarray,
    ) -> CrossModes:
        """Return what a correlation makes noisier or quieter, see `BlockErrors.cross_modes`."""
        sds = self.sds * sd_factors[list(self.members)]
        scale, within = np.outer(sds, sds), np.ix_(self.members, self.members)
        noise = np.stack([self.errors.variance[self.errors.rows_of([i])] for i in self.members])
        modal = ModalErrors(self.modes, scale * base[within], noise, self.names)
        rows = self.errors.rows_of(self.members)
        found = modal.cross_modes(scale * direction[within], jacobian[rows])
        others = [i for i in range(len(base)) if i not in self.members]
        if not others:
            return found
        rest = self.errors.part(others).whiten(jacobian[self.errors.rows_of(others)])
        return replace(found, rest=found.rest + rest.T @ rest)

    def singular(self) -> SingularErrors:
        """Return the error for a combination of data that is free of error."""
        return lost("the data")
