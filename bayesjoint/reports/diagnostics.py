"""Whether the draws can be trusted, in numbers and in words with a cure for each fault."""

from __future__ import annotations

from dataclasses import dataclass

import arviz_stats
import numpy as np
import xarray as xr

from bayesjoint.reports import _modes, _read, _stein, _tails
from bayesjoint.reports._ends import at_ends
from bayesjoint.reports._impossible import divergence_words
from bayesjoint.reports._numbers import percent

MOST_CELLS = 200  # of a latent, evenly spread: a few ms each
R_HAT, LARGE_R_HAT = 1.01, 1.05
ENOUGH, TOO_FEW = _tails.ENOUGH, 100  # effective draws, in the bulk and in the tails
LOW_ENERGY = 0.3  # Betancourt 2016: energy moves too slowly
SATURATED = 0.01  # share of trees at full depth
MANY_GRADIENTS = 100.0  # an effective draw


@dataclass(frozen=True, eq=False)
class Judged:
    """The quantities whose chains are judged: all scalars, of a field some cells.

    Attributes
    ----------
    draws : DataArray, dims (chain, draw, quantity)
    names : ndarray of str, shape (quantity,)
        The latent or hyperparameter that each belongs to.
    cells : ndarray of int, shape (quantity,)
        Its position in that, flat.
    scores : Dataset
        ``r_hat``, ``r_hat_tail``, ``ess_bulk``, ``ess_tail``, ``sd_error`` (quantity); NaN from
        fewer than four draws, and the first of a single chain.
    """

    draws: xr.DataArray
    names: np.ndarray
    cells: np.ndarray
    scores: xr.Dataset

    @property
    def worst(self) -> int:
        """Position of the largest r-hat; of the smallest ``ess_bulk`` where chains are too few."""
        r_hat, ess = self.scores["r_hat"].values, self.scores["ess_bulk"].values
        if np.isfinite(r_hat).any():
            return int(np.argmax(np.nan_to_num(r_hat)))
        return int(np.argmin(np.nan_to_num(ess, nan=np.inf)))


def diagnose(dt: xr.DataTree) -> xr.Dataset:
    """Judge the chains of a sampled posterior, in numbers and in words.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample``, or a posterior of plain PyMC with the group ``sample_stats``.

    Returns
    -------
    xarray.Dataset
        Scalars: largest ``r_hat``, and ``r_hat_tail`` of indicators of the tails, smallest
        ``ess_bulk`` and ``ess_tail``, largest relative Monte Carlo error ``sd_error`` of the sd of
        a quantity with heavy tails (kurtosis above 6; 0 where there is none), ``divergences``,
        smallest ``ebfmi`` of a chain, share ``saturated`` of trees at full depth,
        ``steps_per_draw``, ``gradients_per_effective_draw``; ``stein_score`` and
        ``stein_variance``, how draws keep Stein's identities: largest departure in standard errors,
        and there the variance of the draws over that which slopes tell of (NaN with fewer than 400
        draws in the group ``slopes``). Attrs: ``verdict`` (good, fair, bad), ``text`` (one
        paragraph: what is wrong and what to do), ``worst`` (parameter with the largest r-hat),
        ``at_ends`` (list of sentences, of parameters that sit at an end of their prior). Of a
        field, 200 cells spread evenly are judged.

    Raises
    ------
    ValueError
        When the tree has no group ``posterior``.

    Notes
    -----
    Rank-normalised split r-hat, folded too, bulk and tail effective sample size: Vehtari et al.
    (2021), doi 10.1214/20-BA1221. Energy: Betancourt (2016), arXiv 1604.00695. Good is a verdict
    where r-hat is at most 1.01, there are 400 effective draws in the bulk and in both tails, the
    split r-hat of the indicators of draws below the 1, 2, 5, 10, 90, 95, 98 and 99 % quantiles
    of all draws is at most 1.02 (Moins et al. 2022, arXiv 2205.06694), every sd of a
    quantity with heavy tails is known to 6 %, and Stein's identities hold.

    A tail where no chain has been shows in the slopes of the log-density at the draws alone (Stein
    1972; Gorham & Mackey 2015, arXiv 1506.03039): for z with density p, a direction a with
    ``a_j = 1`` and ``s = a . grad log p(z)``, integration by parts gives ``E[s] = 0`` and
    ``E[(z_j - c) s] = -1`` for any c; of draws that end at z_j = b the first is the density there,
    up or down. z are the coordinates in which chains move, of each unknown up to 20, and of all
    coordinates of a vector or field the mean of ``(z_i - c_i) d_i log p``, which is -1 too. The
    mean slope is told where it stands for a shift above 0.1 sd, the product where it stands for a
    variance 20 % off, and where either is further from its value than chance allows once in a
    hundred runs. Not where steps diverge: there a map may fail, and the density ends, rightly. A
    mode that is apart from the others is not seen.

    Examples
    --------
    >>> from bayesjoint.reports import diagnose
    >>> from bayesjoint.reports.example import example_tree
    >>> report = diagnose(example_tree())
    >>> bool(report["r_hat"] > 0.9), report.attrs["verdict"] in ("good", "fair", "bad")
    (True, True)
    """
    return report_on(dt, judged(dt))


def report_on(dt: xr.DataTree, quantities: Judged) -> xr.Dataset:
    """Return the report of `diagnose` on quantities that are scored already."""
    scores, draws = quantities.scores, quantities.draws
    found = {"r_hat": float(scores["r_hat"].max())}
    found |= {n: float(scores[n].min()) for n in ("ess_bulk", "ess_tail")}
    found |= {n: float(scores[n].max()) for n in ("r_hat_tail", "sd_error")}
    worst = str(quantities.names[quantities.worst]) if np.isfinite(found["r_hat"]) else ""
    found |= of_steps(dt)
    count = draws.sizes["chain"] * draws.sizes["draw"]
    found["gradients_per_effective_draw"] = found["steps_per_draw"] * count / found["ess_bulk"]
    groups = _modes.groups(draws.to_dataset(name="draws"))
    of_chains, of_modes = _agreement(dt, groups, found, worst)
    stein = _stein.departures(dt)
    found |= {"stein_score": stein.score, "stein_variance": stein.variance}
    # Where steps diverge that is told already, and a map may fail there: the density ends, rightly.
    unseen = stein.poor and not found["divergences"] > 0
    faults = of_chains + _of_tails(quantities, found) + (stein.words() if unseen else [])
    faults += _faults(dt, found)
    if found["gradients_per_effective_draw"] > MANY_GRADIENTS and len(groups) == 1:
        faults.append(_dear(found, right=not faults))
    faults += of_modes
    sound = _are_sound(dt, found) and not _tails.are_poor(found) and not unseen
    verdict = verdict_of(found["r_hat"], found["ess_bulk"], sound)
    ends = at_ends(dt)
    attrs = {
        "report": "diagnose", "verdict": verdict, "worst": worst,
        "text": " ".join([_paragraph(found, faults), *ends]), "at_ends": ends,
    }  # fmt: skip
    return xr.Dataset({name: ((), value) for name, value in found.items()}, attrs=attrs)


def judged(dt: xr.DataTree) -> Judged:
    """Pick the quantities of a posterior that are judged, and score their chains."""
    posterior = _read.group(dt, "posterior")
    names = [str(name) for name in posterior.data_vars]
    if _read.has_groups(dt, "linearization"):
        names = [name for name in _read.unknowns(_read.linearization(dt)) if name in posterior]
    draws, cells = [], []
    for name in names:
        values = posterior[name].transpose("chain", "draw", ...)
        flat = values.values.reshape(*values.shape[:2], -1)
        where = np.linspace(0, flat.shape[2] - 1, min(MOST_CELLS, flat.shape[2])).astype(int)
        cells.append(np.unique(where))
        draws.append(flat[:, :, cells[-1]])
    array = xr.DataArray(np.concatenate(draws, axis=2), dims=("chain", "draw", "quantity"))
    of_each = np.repeat(names, [part.size for part in cells])
    return Judged(array, of_each, np.concatenate(cells), _scores(array))


def _scores(draws: xr.DataArray) -> xr.Dataset:
    """Return r-hat and effective sample sizes of each quantity."""
    names = ("r_hat", "ess_bulk", "ess_tail")
    if draws.sizes["draw"] < 4:
        unknown = np.full(draws.sizes["quantity"], np.nan)
        return xr.Dataset({n: ("quantity", unknown) for n in (*names, "r_hat_tail", "sd_error")})
    each = xr.Dataset({"draws": draws})
    found = [arviz_stats.rhat(each), *(arviz_stats.ess(each, method=m) for m in ("bulk", "tail"))]
    scores = xr.Dataset({name: ds["draws"] for name, ds in zip(names, found, strict=True)})
    return scores.assign(
        r_hat_tail=("quantity", _tails.r_hat(draws)), sd_error=("quantity", _tails.sd_error(draws))
    )


def _of_tails(quantities: Judged, found: dict[str, float]) -> list[str]:
    ess, r_hat = (quantities.scores[name].values for name in ("ess_tail", "r_hat_tail"))
    differ = found["r_hat_tail"] > _tails.LARGEST
    worst = np.argmax(np.nan_to_num(r_hat)) if differ else np.argmin(np.nan_to_num(ess, nan=np.inf))
    of_sd = int(np.argmax(np.nan_to_num(quantities.scores["sd_error"].values)))
    return [
        *_tails.words(found, str(quantities.names[int(worst)])),
        *_tails.words_of_sd(found, str(quantities.names[of_sd])),
    ]


def of_steps(dt: xr.DataTree) -> dict[str, float]:
    """Return divergences, energy and steps of the transitions, NaN where they are not known."""
    missing = dict.fromkeys(("divergences", "ebfmi", "saturated", "steps_per_draw"), np.nan)
    if not _read.has_groups(dt, "sample_stats"):
        return missing
    stats = dt["sample_stats"].to_dataset()
    found = dict(missing)
    if "diverging" in stats:
        found["divergences"] = float(stats["diverging"].sum())
    if "n_steps" in stats:
        found["steps_per_draw"] = float(stats["n_steps"].mean())
    if "maxdepth_reached" in stats:
        found["saturated"] = float(stats["maxdepth_reached"].mean())
    if "energy" in stats and stats.sizes["draw"] > 3:
        found["ebfmi"] = float(ebfmi(stats["energy"]).min())
    return found


def _are_sound(dt: xr.DataTree, steps: dict[str, float]) -> bool:
    """Whether no transition diverged, the energy moves, and no mode that matters is left out."""
    wrong = steps["divergences"] > 0 or steps["ebfmi"] < LOW_ENERGY
    return not wrong and _modes.left_out(dt) == 0


def ebfmi(energy: xr.DataArray) -> xr.DataArray:
    """Return how far energy moves between draws, as a share of its variance (chain)."""
    return (energy.diff("draw") ** 2).mean("draw") / energy.var("draw")


def _agreement(
    dt: xr.DataTree, groups: list[list[int]], found: dict[str, float], worst: str
) -> tuple[list[str], list[str]]:
    """Say whether the chains agree, and what is known of modes."""
    r_hat = found["r_hat"]
    if r_hat > R_HAT and len(groups) > 1 and _modes.of_chains(dt):
        return [_modes.apart(dt, groups, r_hat, worst)], []
    faults = []
    if r_hat > R_HAT:
        names = [_modes.counted(group) for group in groups]
        which = f" ({names[0]} from {_modes.listed(names[1:])})" if len(groups) > 1 else ""
        faults.append(
            f"The chains differ (r-hat {r_hat:.3f} of {worst}): draw longer; if they stay "
            f"apart{which} the posterior has several modes or a direction that only its prior "
            "holds."
        )
    if found["ess_bulk"] < ENOUGH:
        times = int(np.ceil(ENOUGH / max(found["ess_bulk"], 1.0)))
        faults.append(
            f"There are only {found['ess_bulk']:.0f} effective draws: {times} times as many draws "
            "would do."
        )
    return faults, _modes.others(dt)


def _faults(dt: xr.DataTree, found: dict[str, float]) -> list[str]:
    """Say each fault of the moves with its cure; nothing where all is well."""
    faults = []
    if found["divergences"] > 0:
        faults.append(divergence_words(dt, int(found["divergences"])))
    if found["ebfmi"] < LOW_ENERGY:
        faults.append(
            f"The energy moves slowly (E-BFMI {found['ebfmi']:.2f}): heavy tails or a funnel. Give "
            "a hyperparameter a narrower prior."
        )
    if found["saturated"] > SATURATED:
        faults.append(
            f"{percent(found['saturated'])} of the trees reached full depth: a direction is far "
            "longer than the linearization says. Narrow the prior of what the data do not resolve."
        )
    return faults


def _dear(found: dict[str, float], right: bool) -> str:
    return (
        f"An effective draw took {found['gradients_per_effective_draw']:.0f} gradients: the "
        "posterior is far from Gaussian and its spectrum helps little."
        f"{' The draws are right, only dear.' if right else ''}"
    )


def verdict_of(r_hat: float, ess: float, sound: bool) -> str:
    """Judge chains, good, fair or bad, from r-hat, bulk size, and whether moves are sound."""
    if r_hat > LARGE_R_HAT or ess < TOO_FEW:
        return "bad"
    return "fair" if r_hat > R_HAT or ess < ENOUGH or not sound else "good"


def _paragraph(found: dict[str, float], faults: list[str]) -> str:
    steps = (
        f" {found['steps_per_draw']:.0f} gradients a draw, "
        f"{found['gradients_per_effective_draw']:.0f} an effective draw."
        if np.isfinite(found["steps_per_draw"])
        else ""
    )
    known = np.isfinite(found["r_hat"])
    start = (
        f"{f'Largest r-hat {found["r_hat"]:.3f}' if known else 'No r-hat'}, smallest effective "
        f"sample size {found['ess_bulk']:,.0f} (bulk) and {found['ess_tail']:,.0f} (tail).{steps}"
    )
    sound = "The chains agree." if known else "Two chains or more could be compared."
    return " ".join([start, *(faults or [sound])])
