"""Whether the draws can be trusted, in numbers and in words with a cure for each fault."""

from __future__ import annotations

import arviz_stats
import numpy as np
import xarray as xr

from bayesjoint.reports import _modes, _read

MOST_CELLS = 200  # of a latent, evenly spread: a few ms each
R_HAT, LARGE_R_HAT = 1.01, 1.05
ENOUGH, TOO_FEW = 400, 100  # effective draws (Vehtari et al. 2021)
LOW_ENERGY = 0.3  # Betancourt 2016: energy moves too slowly
SATURATED = 0.01  # share of trees at full depth
MANY_GRADIENTS = 100.0  # an effective draw


def diagnose(dt: xr.DataTree) -> xr.Dataset:
    """Judge the chains of a sampled posterior, in numbers and in words.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample``, or a posterior of plain PyMC with the group ``sample_stats``.

    Returns
    -------
    xarray.Dataset
        Scalars: largest ``r_hat``, smallest ``ess_bulk`` and ``ess_tail``, ``divergences``,
        smallest ``ebfmi`` of a chain, share ``saturated`` of trees at full depth,
        ``steps_per_draw``, ``gradients_per_effective_draw``. Attrs: ``verdict`` (good, fair, bad),
        ``text`` (one paragraph: what is wrong and what to do), ``worst`` (the parameter with the
        largest r-hat). Of a field, 200 cells spread evenly are judged.

    Raises
    ------
    ValueError
        When the tree has no group ``posterior``.

    Notes
    -----
    Rank-normalised split r-hat, bulk and tail effective sample size: Vehtari et al. (2021), doi
    10.1214/20-BA1221. Energy: Betancourt (2016), arXiv 1604.00695.

    Examples
    --------
    >>> from bayesjoint.reports import diagnose
    >>> from bayesjoint.reports.example import example_tree
    >>> report = diagnose(example_tree())
    >>> bool(report["r_hat"] > 0.9), report.attrs["verdict"] in ("good", "fair", "bad")
    (True, True)
    """
    posterior = _judged(dt)
    numbers, worst = _of_chains(posterior)
    found = {**numbers, **_of_steps(dt)}
    count = posterior.sizes["chain"] * posterior.sizes["draw"]
    found["gradients_per_effective_draw"] = found["steps_per_draw"] * count / found["ess_bulk"]
    groups = _modes.groups(posterior)
    of_chains, of_modes = _agreement(dt, groups, found, worst)
    faults = of_chains + _faults(found)
    if found["gradients_per_effective_draw"] > MANY_GRADIENTS and len(groups) == 1:
        faults.append(_dear(found, right=not faults))
    faults += of_modes
    wrong = found["divergences"] > 0 or found["ebfmi"] < LOW_ENERGY or _modes.left_out(dt) > 0
    verdict = verdict_of(found["r_hat"], found["ess_bulk"], not wrong)
    attrs = {
        "report": "diagnose", "verdict": verdict, "worst": worst,
        "text": _paragraph(found, faults),
    }  # fmt: skip
    return xr.Dataset({name: ((), value) for name, value in found.items()}, attrs=attrs)


def _judged(dt: xr.DataTree) -> xr.Dataset:
    """Return the draws of the unknowns, of a field some cells."""
    posterior = _read.group(dt, "posterior")
    names = [str(name) for name in posterior.data_vars]
    if _read.has_groups(dt, "linearization"):
        names = [name for name in _read.unknowns(_read.linearization(dt)) if name in posterior]
    parts = {}
    for name in names:
        inner = [dim for dim in posterior[name].dims if dim not in ("chain", "draw")]
        flat = posterior[name].stack(cell=inner, create_index=False) if inner else posterior[name]
        if inner:
            where = np.linspace(0, flat.sizes["cell"] - 1, min(MOST_CELLS, flat.sizes["cell"]))
            flat = flat.isel(cell=np.unique(where.astype(int))).rename(cell=f"cell_of_{name}")
        parts[name] = flat.drop_vars([c for c in flat.coords if c not in ("chain", "draw")])
    return xr.Dataset(parts)


def _of_chains(posterior: xr.Dataset) -> tuple[dict[str, float], str]:
    """Return r-hat and effective sample sizes, and the parameter with the largest r-hat."""
    if posterior.sizes["draw"] < 4:
        return dict.fromkeys(("r_hat", "ess_bulk", "ess_tail"), np.nan), ""
    r_hat = arviz_stats.rhat(posterior).max()
    largest = {str(name): float(value) for name, value in r_hat.data_vars.items()}
    worst = max(largest, key=lambda name: np.nan_to_num(largest[name]))
    bulk, tail = (
        float(min(v.min() for v in arviz_stats.ess(posterior, method=m).data_vars.values()))
        for m in ("bulk", "tail")
    )
    return {"r_hat": largest[worst], "ess_bulk": bulk, "ess_tail": tail}, worst


def _of_steps(dt: xr.DataTree) -> dict[str, float]:
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
        energy = stats["energy"]
        moved = (energy.diff("draw") ** 2).mean("draw")
        found["ebfmi"] = float((moved / energy.var("draw")).min())
    return found


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


def _faults(found: dict[str, float]) -> list[str]:
    """Say each fault of the moves with its cure; nothing where all is well."""
    faults = []
    if found["divergences"] > 0:
        faults.append(
            f"{found['divergences']:.0f} divergences: regions of strong curvature were missed. "
            "Raise target_accept towards 0.99, or give scales priors that keep them off zero."
        )
    if found["ebfmi"] < LOW_ENERGY:
        faults.append(
            f"The energy moves slowly (E-BFMI {found['ebfmi']:.2f}): heavy tails or a funnel. Give "
            "a hyperparameter a narrower prior."
        )
    if found["saturated"] > SATURATED:
        faults.append(
            f"{found['saturated']:.0%} of the trees reached full depth: a direction is far longer "
            "than the linearization says. Narrow the prior of what the data do not resolve."
        )
    return faults


def _dear(found: dict[str, float], right: bool) -> str:
    return (
        f"An effective draw took {found['gradients_per_effective_draw']:.0f} gradients: the "
        "posterior is far from Gaussian and its spectrum helps little."
        f"{' The draws are right, only dear.' if right else ''}"
    )


def verdict_of(r_hat: float, ess: float, sound: bool) -> str:
    """Judge chains, good, fair or bad, from r-hat, bulk size, and whether their moves are sound."""
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
    start = (
        f"Largest r-hat {found['r_hat']:.3f}, smallest effective sample size "
        f"{found['ess_bulk']:,.0f} (bulk) and {found['ess_tail']:,.0f} (tail).{steps}"
    )
    return " ".join([start, *(faults or ["The chains agree."])])
