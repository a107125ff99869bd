"""The figures of the page, with captions that say how to read them."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import xarray as xr

from bayesjoint import plots
from bayesjoint._names import plain
from bayesjoint.page.contents import Contents, uncoupled
from bayesjoint.plots._style import words
from bayesjoint.plots.discrepancy import with_discrepancy
from bayesjoint.plots.posterior import drawn_as_field
from bayesjoint.reports import _read

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 170  # sharp on dense screens and in print
MOST_LEAKAGE = 24  # groups in a leakage matrix that stay readable
MOST_SPREADS = 3  # fields whose point spread is shown


@dataclass(frozen=True)
class Picture:
    """A figure, encoded, with its words."""

    title: str
    caption: str
    source: str  # data address of a PNG
    width: int  # percent of the page
    alternative: str  # for readers who do not see it


@dataclass(frozen=True)
class Section:
    """Figures that answer one question."""

    title: str
    pictures: list[Picture]


def sections(page: Contents) -> list[Section]:
    """Draw all figures that the tree allows."""
    drawn = [
        Section("Estimates", list(_estimates(page))),
        Section("Fit", list(_fit(page))),
        Section("What the data can tell", list(_reach(page))),
        Section("Which data set said it", list(_origin(page))),
        Section("Do they contradict each other", list(_contradiction(page))),
        Section("Do the fields share structure", list(_structure(page))),
        Section("Can the draws be trusted", list(_chains(page))),
    ]
    return [section for section in drawn if section.pictures]


def _picture(figure: Figure, title: str, caption: str) -> Picture:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DOTS_PER_INCH)
    encoded = base64.b64encode(stream.getvalue()).decode("ascii")
    width = min(100, round(100 * figure.get_figwidth() / 9.0))
    return Picture(title, caption, f"data:image/png;base64,{encoded}", width, f"Figure: {title}")


def _estimates(page: Contents) -> Iterator[Picture]:
    ds = page.linear
    fields = [name for name in _read.unknowns(ds) if drawn_as_field(ds, name)]
    scalars = [name for name in _read.unknowns(ds) if name not in fields]
    prior = " Grey: prior. A blue hill that fills the grey one was not told by the data."
    if scalars:
        yield _picture(
            plots.plot_posterior(page.tree, scalars),
            "Parameters",
            "Blue: posterior density; the bar below is its central 90 %."
            + (prior if _read.has_groups(page.tree, "prior") else " Gaussian near the best fit."),
        )
    if fields:
        yield _picture(
            plots.plot_posterior(page.tree, fields),
            "Fields",
            "Left: the estimate. Right: its standard deviation, the width of what is possible at "
            "each place; where it equals the prior's, the estimate is the prior's as well.",
        )
    for name in map(str, _read.listed(ds, "mixtures")):
        yield _picture(
            plots.plot_membership(page.tree, name),
            f"Units of {words(name)}",
            "Probability that each cell belongs to each unit, and the most likely one, the paler "
            "the less sure. Volume: the share expected of each unit now; prior: before the data.",
        )


def _fit(page: Contents) -> Iterator[Picture]:
    if page.predictive is None:
        return
    yield _picture(
        plots.plot_fit(page.tree),
        "Data and responses",
        "Black: data, with the standard deviation of their noise where it is known. Colour: what "
        "the physics predicts over the posterior, central 50 and 90 %, without noise. Data that "
        "keep to one side of the band point to physics that is missing. On maps: data, mean "
        "response, and their difference.",
    )
    yield _picture(
        plots.plot_predictive_check(page.tree),
        "Predictive check",
        "Could the fitted model, noise included, have produced these data? Left: data on 50 and "
        "90 % of replicated data. Middle: residuals in standard deviations; about one in twenty "
        "should lie beyond the dashed lines. Right: share of replications that reach what was "
        "observed; a dot in a shaded margin says that the data show more (left) or less (right) of "
        "it than the model allows.",
    )
    if with_discrepancy(page.tree):
        yield _picture(
            plots.plot_discrepancy(page.tree),
            "Discrepancy",
            "What the posterior takes for errors of the physics rather than for noise, in the "
            "units of the data: mean and standard deviation on maps, else central 50 and 90 %. "
            "Patches many standard deviations high show where, and how smoothly, the physics "
            "falls short.",
        )
    if isinstance(page.leave_one_out, xr.Dataset):
        yield _picture(
            plots.plot_leave_one_out(page.leave_one_out),
            "Each datum from all others",
            "Left: how many data lie below a predicted probability, less that probability. Inside "
            "the grey band predictions are as sharp as they claim; a slope up, down and up again "
            "says that intervals are too narrow, the reverse too wide. Right: data above the "
            "dashed line move the estimate too far to be left out by weights alone.",
        )


def _reach(page: Contents) -> Iterator[Picture]:
    yield _picture(
        plots.plot_identifiability(page.identifiability),
        "Identifiability",
        "Contraction is the share of prior variance that the data removed. Bars are linearised and "
        "coloured by the data set that did it; dots are from draws; diamonds say how much of a "
        "parameter lies in directions that data know better than the prior. Correlations near 1 "
        "or −1 mean that only a combination of the two is known.",
    )
    if page.fields:
        yield _picture(
            plots.plot_resolution(page.tree),
            "Resolution",
            "Diagonal of the resolution matrix: how much of a true change in one cell shows up in "
            "that cell. Near 1 the data determine the cell by itself, near 0 the prior or the "
            "neighbours do; values below a few tenths mean that only averages over several cells "
            "are known.",
        )
    for name in page.fields[:MOST_SPREADS]:
        yield _spread(page, name)
    if 1 < len(_read.latents(page.linear)) <= MOST_LEAKAGE:
        yield _picture(
            plots.plot_leakage(page.tree),
            "Leakage",
            "Each row is an estimate; the columns say where, in percent, its response comes from. "
            "Off the diagonal, a true change of one property shows up in another: so do data "
            "inform properties they do not see, and so do artefacts enter.",
        )
    yield _picture(
        plots.plot_spectrum(page.tree),
        "Spectrum",
        "Left: for each direction in the space of unknowns, what the data say about it against "
        "what the prior says. Right: the directions add up to the degrees of freedom that the data "
        "determine.",
    )


def _spread(page: Contents, name: str) -> Picture:
    grid = _read.template(page.linear, name)
    centre = {plain(dim): grid[dim].values[grid.sizes[dim] // 2] for dim in grid.dims}
    return _picture(
        plots.plot_point_spread(page.tree, name, **centre),
        f"Point spread of {words(name)}",
        f"If {words(name)} truly rose by one unit in the marked cell alone, the estimates would "
        "change like this. A sharp spot: the cell is resolved. A smear: only the average over it "
        "is. What shows up in another property is leakage.",
    )


def _origin(page: Contents) -> Iterator[Picture]:
    if len(page.modalities) > 1:
        yield _picture(
            plots.plot_information(page.tree),
            "Information by data set",
            "Left: how many of the degrees of freedom each data set supplies. Right: what it would "
            "tell by itself (full colour) and what it adds when the others are known (pale). Much "
            "alone and little on top: the data sets repeat each other.",
        )
    if page.balance is not None:
        yield _picture(
            plots.plot_balance(page.tree),
            "Balance",
            "Does one data set drown another? Above: shares of the data beside shares of what they "
            "tell; by how many standard deviations of its noise a datum moves over the prior; and "
            "misfit, 1 where the noise is as stated. Below: each cell in the colour of the data "
            "set that alone tells most about it, pale where it tells little.",
        )
    if page.separate:
        yield _picture(
            plots.plot_compromise(page.tree, page.separate),
            "Compromise",
            "From the fit of each data set by itself (open) to the joint fit (filled). Left: "
            "misfit per datum, about 1 when it is as large as the noise; the diamond is what the "
            "average of the separate models would give. Right: misfit plus distance from the "
            "prior; a large step says that the data sets pull in different directions. Below: the "
            "models themselves.",
        )


def _contradiction(page: Contents) -> Iterator[Picture]:
    if isinstance(page.tension, xr.Dataset):
        yield _picture(
            plots.plot_tension(page.tension),
            "Tension",
            "Above: how much better all data sets are explained together than apart; in grey what "
            "consistent data sets would show. A line far to the left says that no one model "
            "explains them all. Below: the parameters they share, by each data set alone (open) "
            "and jointly (filled), and by how many sd of the difference two data sets are apart.",
        )


def _structure(page: Contents) -> Iterator[Picture]:
    if page.alignment is not None:
        yield _picture(
            plots.plot_alignment(page.tree, uncoupled(page.tree, page.separate)),
            "Alignment",
            "A coupling by structure is content with aligned fields and with flat ones. Maps: "
            "edges that both fields have, against the prior's; the angle between their gradients, "
            "which counts where there are edges; their correlation. Below, over draws: similarity "
            "of what is not flat, how much is flat, and correlation of the fields; grey is the "
            "prior with its couplings.",
        )


def _chains(page: Contents) -> Iterator[Picture]:
    if not page.sampled:
        return
    yield _picture(
        plots.plot_diagnostics(page.tree),
        "Chains",
        "Above: r-hat and effective draws of every quantity, of a field 200 cells, with the limits "
        "between good, fair and bad. Middle: of the quantity with the largest r-hat, the ranks of "
        "each chain, which stay in the grey band where chains agree, and its draws. Below: energy "
        "should change from draw to draw as widely as it varies; a narrower line says that the "
        "chains creep. Right: gradients that draws took.",
    )
