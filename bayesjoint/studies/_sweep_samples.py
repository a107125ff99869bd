"""A problem sampled at chosen correlations of its errors: what a sweep is held against."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from arviz_stats.base import array_stats

from bayesjoint.problem import JointProblem
from bayesjoint.sampling import sample
from bayesjoint.studies._local_problem import Row
from bayesjoint.studies._swept_errors import Swept


def sampled_sd(
    problem: JointProblem,
    swept: Swept,
    rows: Sequence[Row],
    correlations: Sequence[float],
    settings: Mapping[str, Any],
) -> xr.Dataset:
    """Return sampled posterior sds and their Monte Carlo errors, (nuts_correlation, parameter)."""
    columns: dict[str, list[np.ndarray]] = {"": [], "_mcse": []}
    for correlation in correlations:
        tree = sample(swept.problem(problem, correlation), **settings)
        posterior = tree["posterior"].to_dataset()
        sds, errors = zip(*(_of_row(posterior, row) for row in rows), strict=True)
        columns[""].append(np.array(sds))
        columns["_mcse"].append(np.array(errors))
    return xr.Dataset(
        {
            f"posterior_sd_sampled{suffix}": (("nuts_correlation", "parameter"), np.stack(values))
            for suffix, values in columns.items()
        },
        {"nuts_correlation": list(correlations), "parameter": [row.label for row in rows]},
    )


def _of_row(posterior: xr.Dataset, row: Row) -> tuple[float, float]:
    """Return the sd, of a field its root mean square over cells, and its Monte Carlo error.

    The errors of the cells of a field are taken as one, as if they all went together.
    """
    draws = posterior[row.latent]
    values = draws.values.reshape(draws.sizes["chain"], draws.sizes["draw"], -1)[..., row.cells]
    sd = values.std(axis=(0, 1), ddof=1)
    error = [array_stats.mcse(values[..., i], method="sd") for i in range(row.cells.size)]
    return float(np.sqrt(np.mean(sd**2))), float(np.sqrt(np.mean(np.square(error))))
