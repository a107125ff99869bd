"""Whether one modality drowns another: what each weighs, where, and why."""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayesjoint._kernels.powers import equal_powers
from bayesjoint._names import free, labelled, made, with_marks
from bayesjoint.reports import _contributions, _read
from bayesjoint.reports._balance_words import NOBODY, balance_words
from bayesjoint.reports.information import information
from bayesjoint.reports.resolution import resolution

LEAST = 0.1  # share of a cell's variance below which no modality leads there
DEPARTURE = (
    "departure from the model: powers other than 1 change the posterior and its widths, and no "
    "noise model stands behind them"
)


@labelled
def balance(dt: xr.DataTree, equalise: bool = False) -> xr.Dataset:
    """Weigh the modalities: sensitivity, degrees of freedom, information, and where each leads.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample`` or ``bj.linearize`` (group ``linearization``).
    equalise : bool
        Find also the powers of the likelihoods that would give each modality an equal say.

    Returns
    -------
    xarray.Dataset
        - ``n_data``, ``n_data_share`` (modality);
        - ``sensitivity_norm`` (modality): Frobenius norm of the whitened sensitivity; and
          ``sensitivity_per_datum``, by how many noise sd a datum moves when the unknowns move by
          their prior sd (root mean square);
        - ``partial_dofs``, ``dofs_share`` (modality): these add up to ``dofs`` and to 1;
        - ``eig_alone``, ``eig_conditional`` (modality) and ``eig`` as in ``bj.information``, nats;
          ``eig_part`` adds up to ``eig`` and ``eig_share`` to 1;
        - ``misfit_ratio`` (modality): misfit over its expectation, 1 where the noise fits;
        - ``scale`` (latent): root mean square prior sd, by which unknowns are scaled, in
          ``units`` (latent);
        - for every latent and hyperparameter, shares of the prior variance of each cell:
          ``<latent>_alone`` (modality, dims of the latent), removed by this modality alone;
          ``<latent>_conditional``, no longer removed when it is left out (missing where the errors
          of more than two modalities are correlated); and ``<latent>_leader``, the modality that
          alone removes most, or ``"prior"`` where none removes a tenth;
        - on request ``power`` (modality), the largest 1, and ``dofs_equalised``, what each
          modality then has.

        With dim ``point`` when the tree was linearized at draws (leaders from the mean). Attrs:
        ``words`` (list of sentences: what stands out, and what to do), ``departure`` where powers
        are given or the problem is tempered, and the settings.

    Raises
    ------
    ValueError
        When the tree has no group ``linearization``, or equal powers are asked for and do not
        exist: a single modality, one without any information, or correlated errors.

    Notes
    -----
    A correct posterior needs no balancing: residuals are weighed by their noise and unknowns by
    their prior sd, and the noise model is the balance. What can be wrong is a stated noise sd.

    ``H_k`` is the information of modality k at the point, ``H v = lam (I + Gamma) v``.
    ``sensitivity_norm = sqrt(sum_j v_j^T H_k v_j)``, which with known noise is the norm of
    ``R_k^{-1/2} J_k`` in coordinates that whiten the prior. The part of the information is
    ``1/2 sum_j (v_j^T H_k v_j) log(1 + lam_j) / lam_j``, what modality k adds while all data grow
    in from nothing together (Aumann & Shapley 1974). Alone, the cells of a latent lose
    ``diag(L (C - (C^-1 + H_k)^-1) L^T)`` of their variance, with ``C = (I + Gamma)^-1``.

    Equal say means equal partial degrees of freedom: powers w with
    ``tr((I + Gamma + sum_j w_j H_j)^-1 w_k H_k)`` the same for all k, at the point of the tree.
    To apply them: ``problem.replace(modalities=[dataclasses.replace(m, power=float(
    report["power"].sel(modality=m.name))) for m in problem.modalities])``.

    Examples
    --------
    >>> from bayesjoint.reports import balance
    >>> from bayesjoint.reports.example import example_tree
    >>> report = balance(example_tree(), equalise=True)
    >>> float(report["eig_share"].sum().round(9)), float(report["power"].max())
    (1.0, 1.0)
    """
    ds = _read.linearization(dt)
    report = _weights(dt, ds).merge(_scales(ds))
    report = report.merge(_over_points(ds, _maps))
    for name in _read.unknowns(ds):
        report[made(f"{name}_leader")] = _leader(report[made(f"{name}_alone")])
    attrs = {"report": "balance", **_read.settings(ds), "split": _read.split_note(ds)}
    attrs["noise_scales"] = _noise_scales(ds)
    attrs["without_prior_sd"] = [
        name for name in _read.unknowns(ds)
        if np.isinf(ds["true_prior_sd"].isel(cell=_read.cells_of(ds, name))).any()
    ]  # fmt: skip
    if equalise:
        _require_equal_possible(ds, report)
        report = report.merge(_over_points(ds, _equalised))
    if equalise or attrs["tempered"]:
        attrs["departure"] = DEPARTURE
    report.attrs = attrs
    return report.assign_attrs(words=balance_words(report))


def _weights(dt: xr.DataTree, ds: xr.Dataset) -> xr.Dataset:
    """Return what each modality weighs as a whole."""
    norm = ds["modality_information"].sum("mode") ** 0.5
    values = _read.eigenvalues(ds)
    growth = xr.where(values > 0, np.log1p(values) / values.where(values > 0, 1.0), 1.0)
    part = 0.5 * (ds["modality_information"] * growth).sum("mode")
    told, resolved = information(dt), with_marks(resolution)(dt)
    partial = resolved["partial_dofs"]
    report = xr.Dataset(
        {
            "n_data": ds["n_data"],
            "n_data_share": ds["n_data"] / ds["n_data"].sum("modality"),
            "sensitivity_norm": norm,
            "sensitivity_per_datum": norm / ds["n_data"] ** 0.5,
            "partial_dofs": partial,
            "dofs": resolved["dofs"],
            "dofs_share": partial / resolved["dofs"],
            **{name: told[name] for name in ("eig", "eig_alone", "eig_conditional")},
            "eig_part": part.assign_attrs(units="nat"),
            "eig_share": part / told["eig"],
            "misfit_ratio": ds["chi2"] / (ds["n_data"] - partial).clip(min=1.0),
        }
    )
    return report.reset_coords(drop=True)


def _scales(ds: xr.Dataset) -> xr.Dataset:
    names, squared = _read.unknowns(ds), _read.prior_sd_of_cells(ds) ** 2
    scale = [float(squared.isel(cell=_read.cells_of(ds, name)).mean()) ** 0.5 for name in names]
    units = np.array([_read.units(ds, name) for name in names], dtype=str)
    return xr.Dataset({"scale": ("latent", scale), "units": ("latent", units)}, {"latent": names})


def _over_points(ds: xr.Dataset, make) -> xr.Dataset:
    """Make a report at each point."""
    if "point" not in ds.dims:
        return make(ds)
    each = [make(ds.isel(point=i, drop=True)) for i in range(ds.sizes["point"])]
    return xr.concat(each, dim="point", data_vars="all", coords="minimal", compat="override")


def _maps(ds: xr.Dataset) -> xr.Dataset:
    alone, conditional = _contributions.shares(ds)
    found = {}
    for key, values in (("alone", alone), ("conditional", conditional)):
        if values is None:
            continue
        labels = {"modality": _read.modalities(ds)}
        flat = xr.DataArray(values, dims=("modality", "cell"), coords=labels)
        for name in _read.unknowns(ds):
            found[made(f"{name}_{key}")] = _read.on_grid(flat, ds, name)
            found[made(f"{name}_{key}")].attrs = {"units": "1"}
    return xr.Dataset(found)


def _leader(alone: xr.DataArray) -> xr.DataArray:
    """Name the modality that alone removes most of the variance of each cell."""
    mean = alone.mean("point") if "point" in alone.dims else alone
    names = mean["modality"].values.astype(str)
    leading = mean.argmax("modality")
    chosen = np.where(mean.max("modality") < LEAST, free(NOBODY, names), names[leading.values])
    return leading.copy(data=chosen)


def _noise_scales(ds: xr.Dataset) -> list[str]:
    """Whether the scale of each noise is known; read from the unknowns where not stored."""
    if stored := [str(word) for word in _read.listed(ds, "noise_scales")]:
        return stored
    hyper = [str(name) for name in _read.listed(ds, "hyperparameters")]
    return [
        "unknown" if {f"{name}_sd", f"{name}_scale"} & set(hyper) else "known"
        for name in _read.modalities(ds)
    ]


def _require_equal_possible(ds: xr.Dataset, report: xr.Dataset) -> None:
    names = _read.modalities(ds)
    if len(names) < 2:
        raise ValueError(f"equalise: the problem has one modality, {names[0]}; nothing to equalise")
    if ds.attrs.get("errors") == "correlated":
        raise ValueError(
            "equalise: the errors of the modalities are correlated, and what each says is not its "
            "own; powers have no meaning there. Leave out the discrepancy, or equalise=False"
        )
    told = report["partial_dofs"].min("point") if "point" in ds.dims else report["partial_dofs"]
    silent = [name for name in names if float(told.sel(modality=name)) < 1e-9]
    if silent:
        raise ValueError(
            f"equalise: {', '.join(silent)} says nothing about any unknown, and no power of the "
            "others is small enough; leave it out with problem.without(...)"
        )


def _equalised(ds: xr.Dataset) -> xr.Dataset:
    given = np.array(list(_read.powers(ds).values()))
    blocks = np.stack([rows.T @ rows for rows in _contributions.factors(ds)])
    powers, dofs = equal_powers(blocks / given[:, None, None])
    return xr.Dataset(
        {"power": ("modality", powers, {"note": DEPARTURE}), "dofs_equalised": ((), dofs)},
        {"modality": _read.modalities(ds)},
    )
