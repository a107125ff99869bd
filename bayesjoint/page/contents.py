"""Everything that the page shows, computed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import xarray as xr

from bayesjoint._names import restored, with_marks
from bayesjoint.plots._fields import one_point
from bayesjoint.reports import (
    _maxima,
    _read,
    _structure,
    alignment,
    balance,
    compromise,
    diagnose,
    identifiability,
    information,
    leave_one_out,
    predictive_check,
    resolution,
    summary,
    tension,
)


@dataclass(frozen=True)
class Contents:
    """The tree and its reports, several points averaged."""

    tree: xr.DataTree
    linear: xr.Dataset  # the group ``linearization``
    summary: xr.Dataset
    resolution: xr.Dataset
    identifiability: xr.Dataset
    information: xr.Dataset
    predictive: xr.Dataset | None
    compromise: xr.Dataset | None
    balance: xr.Dataset | None
    alignment: xr.Dataset | None
    tension: xr.Dataset | str | None  # words: why it is not told
    leave_one_out: xr.Dataset | str | None  # words: why it is not told
    diagnosis: xr.Dataset | None
    separate: Mapping[str, xr.DataTree] | None

    @property
    def sampled(self) -> bool:
        """Whether there are draws."""
        return _read.has_groups(self.tree, "posterior")

    @property
    def as_high(self) -> int:
        """How many maxima are about as high as the best fit, that one left out."""
        return len(_maxima.maxima(self.tree)) - 1

    @property
    def modalities(self) -> list[str]:
        """Names of the data sets."""
        return _read.modalities(self.linear)

    @property
    def fields(self) -> list[str]:
        """Latents that have dims."""
        return [k for k in _read.latents(self.linear) if _read.template(self.linear, k).ndim > 0]


def contents_of(dt: xr.DataTree, separate: Mapping[str, xr.DataTree] | None) -> Contents:
    """Compute all reports that the tree allows."""
    linear = _read.linearization(dt)
    weighable = linear.sizes["modality"] > 1 and "modality_factor" in linear
    alike = int(linear.attrs.get("coupled", 0)) and _structure.comparable(dt)
    checkable = _read.has_groups(dt, "posterior", "posterior_predictive", "observed_data")
    return Contents(
        tree=dt,
        linear=linear,
        summary=summary(dt),
        resolution=one_point(with_marks(resolution)(dt)),
        identifiability=one_point(restored(identifiability(dt))),
        information=one_point(information(dt)),
        predictive=predictive_check(dt) if checkable else None,
        compromise=compromise(dt, separate) if separate else None,
        balance=balance(dt) if weighable else None,
        alignment=alignment(dt, uncoupled(dt, separate)) if alike else None,
        tension=_tension(dt, separate),
        leave_one_out=_leave_one_out(dt),
        diagnosis=diagnose(dt) if _read.has_groups(dt, "posterior") else None,
        separate=separate,
    )


def _tension(
    dt: xr.DataTree, separate: Mapping[str, xr.DataTree] | None
) -> xr.Dataset | str | None:
    """Return the tension, or why these fits do not tell it."""
    try:
        return tension(dt, separate) if separate else None
    except ValueError as refused:
        return str(refused)


def _leave_one_out(dt: xr.DataTree) -> xr.Dataset | str | None:
    """Return each datum predicted from all others, or why so few draws do not tell it."""
    if not _read.has_groups(dt, "log_likelihood", "predictive_cdf"):
        return None
    try:
        return leave_one_out(dt)
    except ValueError as refused:
        return str(refused)


def uncoupled(
    dt: xr.DataTree, separate: Mapping[str, xr.DataTree] | None
) -> Mapping[str, xr.DataTree] | None:
    """Return the separate runs where they hold draws of all fields; else nothing."""
    if not separate or not all(_read.has_groups(tree, "posterior") for tree in separate.values()):
        return None
    drawn = {name for tree in separate.values() for name in tree["posterior"].data_vars}
    return separate if drawn.issuperset(_read.latents(_read.linearization(dt))) else None
