"""From a tree to one HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import xarray as xr

from bayesjoint import _arguments
from bayesjoint.page import figures, tables, trust, words
from bayesjoint.page.contents import Contents, contents_of
from bayesjoint.page.numbers import listed
from bayesjoint.plots._style import colours
from bayesjoint.plots._style import words as spoken

TEMPLATE = "page.html.j2"


def report(
    dt: xr.DataTree,
    path: str | Path,
    title: str | None = None,
    separate: Mapping[str, xr.DataTree] | None = None,
) -> Path:
    """Write one self-contained HTML page on a posterior, and return its path.

    What was found in sentences, a table of estimates, every figure with a caption that says how
    to read it, and the settings. It needs no network and no other file.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample``, or from ``bj.linearize`` for a preview without sampling.
    path : str or Path
        File to write; its folder must exist. An existing file is replaced.
    title : str, optional
        Default: names of the modalities.
    separate : mapping of modality to xarray.DataTree, optional
        Fits of each modality by itself, for compromise and tension.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    ImportError
        Without matplotlib and jinja2, which the extra ``plots`` brings.
    ValueError
        When the tree has no group ``linearization``, or ``separate`` does not fit it.
    OSError
        When the file can not be written.

    Examples
    --------
    >>> import tempfile
    >>> from bayesjoint.page import report
    >>> from bayesjoint.reports.example import example_tree
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = report(example_tree(), f"{folder}/page.html")
    ...     page.name
    'page.html'
    """
    _arguments.check("report", path=path)
    _arguments.check_given("report", title=title)
    separate = _arguments.trees("report", "separate", separate) or None
    template, target = _template(), Path(path)
    if not target.parent.is_dir():  # said before the figures are drawn
        raise FileNotFoundError(
            f"report: the folder '{target.parent}' does not exist; make it first"
        )
    page = contents_of(dt, separate)
    target.write_text(template.render(**_variables(page, title)), encoding="utf-8")
    return target


def _template() -> Any:
    try:
        import jinja2
    except ImportError as missing:
        raise ImportError(
            "the page needs jinja2; install the extra: pip install 'bayesjoint[plots]'"
        ) from missing
    source = files("bayesjoint.page").joinpath(TEMPLATE).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(source)


def _variables(page: Contents, title: str | None) -> dict[str, Any]:
    names = [spoken(name) for name in page.modalities]
    lines = tables.estimates(page)
    return {
        "title": title or listed(names),
        "preview": not page.sampled,
        "verdict": trust.verdict(page) if page.sampled else "",
        "opening": words.opening(page),
        "tiles": tables.tiles(page),
        "findings": words.findings(page),
        "warnings": trust.warnings(page),
        "modalities": list(zip(names, colours(page.modalities).values(), strict=True)),
        "estimates": lines[: tables.ALWAYS_SHOWN],
        "more_estimates": lines[tables.ALWAYS_SHOWN :],
        "probability": f"{100 * float(page.summary.attrs['probability']):.0f} %",
        "sections": figures.sections(page),
        "settings": tables.settings(page),
    }
