"""The door through which every array of a user enters: by its labels, in the wanted units.

`read` takes whatever holds numbers (numbers, lists, NumPy, masked, pandas, xarray, pint, dask,
times) and returns plain numbers with the labels and units that came with them, or says why it
cannot.  `aligned` and `matrix` bring them into the order and units of the place where they belong,
`coordinate` makes numbers of places and times.  What a user gave is copied by `keep`, so that
changing it afterwards changes nothing.
"""

from bayesjoint.arrays.coordinates import (
    Frame,
    bare_coordinate,
    coordinate,
    frame_of,
    is_measured,
)
from bayesjoint.arrays.keeping import ReadOnly, Shown, keep, keep_settings
from bayesjoint.arrays.labels import SAME_PLACE, matched, plain, plain_labels
from bayesjoint.arrays.matrices import columns_of, matrix, matrix_sides, rows_of, sparse_matrix
from bayesjoint.arrays.observed import data, observations, real_and_imaginary
from bayesjoint.arrays.places import Axes, aligned, mask, positions
from bayesjoint.arrays.reading import (
    Given,
    as_array,
    is_labelled,
    is_tensor,
    number,
    numbers,
    read,
)

LARGEST_INTEGER = 2**53  # beyond, not every whole number is a floating-point number

__all__ = [
    "LARGEST_INTEGER",
    "SAME_PLACE",
    "Axes",
    "Frame",
    "Given",
    "ReadOnly",
    "Shown",
    "aligned",
    "as_array",
    "bare_coordinate",
    "columns_of",
    "coordinate",
    "data",
    "frame_of",
    "is_labelled",
    "is_measured",
    "is_tensor",
    "keep",
    "keep_settings",
    "mask",
    "matched",
    "matrix",
    "matrix_sides",
    "number",
    "numbers",
    "observations",
    "plain",
    "plain_labels",
    "positions",
    "read",
    "real_and_imaginary",
    "rows_of",
    "sparse_matrix",
]
