"""What nutpie returns of one chain, read from its Arrow columns.

nutpie's own conversion makes labelled trees of everything that it knows: 36 ms a chain at every
checkpoint, a hundred times what sampling costs there.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow
import xarray as xr

POINT, SCALES, MESSAGE = "point", "mass_matrix_inv", "divergence_message"
LEFT_OUT = {"chain", "draw", "tuning", "fisher_distance", "transformation_index"}


@dataclass(frozen=True, eq=False)
class Trace:
    """Draws of one chain with their statistics; the warm-up comes first.

    Attributes
    ----------
    points : ndarray, shape (draw, n)
    columns : dict
        Arrow columns by name.
    tuning : int
        Draws of the warm-up.
    """

    points: np.ndarray
    columns: dict[str, Any]
    tuning: int

    @property
    def draws(self) -> np.ndarray:
        """Points after the warm-up, shape (draw, n)."""
        return self.points[self.tuning :]

    @property
    def scales(self) -> np.ndarray:
        """The last metric that was adapted, shape (n,)."""
        column = pyarrow.array(self.columns[SCALES])
        return column.drop_null()[-1].values.to_numpy()

    def last(self, name: str) -> float:
        """Return a statistic at the last draw."""
        return pyarrow.array(self.columns[name])[-1].as_py()

    def stats(self, start: int, stop: int) -> xr.Dataset:
        """Return what is known of each draw of a range, as of one chain."""
        kept: dict[str, Any] = {}
        for name, column in self.columns.items():
            event = column.field.metadata.keys() & {b"event_dim", b"dims"}
            if name not in LEFT_OUT and not event:
                values = pyarrow.array(column).to_numpy(zero_copy_only=False)[start:stop]
                kept[name] = (("chain", "draw"), values[None])
        return xr.Dataset(kept)

    def messages(self, start: int, stop: int) -> np.ndarray:
        """Return what was said of each divergence, empty where there was none."""
        told = pyarrow.array(self.columns[MESSAGE]).to_pylist()[start:stop]
        return np.array([text or "" for text in told], dtype=str)


def read(results: Any) -> Trace:
    """Return the trace of one chain from nutpie's raw results."""
    (draws,), (stats,) = results.get_arrow_trace()
    column = draws.column(POINT)
    size = int(column.field.metadata[b"shape"])
    columns = {name: stats.column(name) for name in stats.column_names}
    tuning = int(np.sum(pyarrow.array(columns["tuning"]).to_numpy(zero_copy_only=False)))
    points = pyarrow.array(column).flatten().to_numpy().reshape(draws.num_rows, size)
    return Trace(points, columns, tuning)
