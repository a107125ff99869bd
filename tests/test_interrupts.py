"""Ctrl-C at any moment keeps the draws: signals come from outside, as a user's do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TRIALS = """
import json, os, shutil, signal, sys, threading, time, warnings
import numpy as np
import bayesjoint as bj
from pathlib import Path
from bayesjoint._sampler.run import Run
from bayesjoint._sampler.store import recorded
from tests.test_store import SETTINGS, whole_problem

count, seed, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] or None
problem, rng, draws = whole_problem(), np.random.default_rng(seed), 100_000
settings = dict(SETTINGS, checkpoint=300, tune=50)
warnings.simplefilter("ignore")
bj.sample(problem, draws=10, **settings)  # what is compiled is compiled
draw = Run.draw

def interrupt_later():
    threading.Timer(wait, os.kill, (os.getpid(), signal.SIGINT)).start()

def drawn(*arguments):
    if trial % 3:
        interrupt_later()
    return draw(*arguments)

Run.draw = drawn
for trial in range(count):
    if store:
        shutil.rmtree(store, ignore_errors=True)
    wait = float(rng.uniform(0.0, 2.0))
    said, made, kept, finite = "", 0, 0, True
    try:
        if not trial % 3:
            interrupt_later()
        try:
            tree = bj.sample(problem, draws=draws, store=store, **settings)
            made = {g.sizes["draw"] for n, g in tree.children.items()
                    if "draw" in g.sizes and not n.startswith("prior")
                    and g.attrs.get("thinned", 1) == 1}
            (made,) = made
            finite = bool(np.isfinite(tree["posterior"]["theta"]).all())
        except KeyboardInterrupt as error:
            said = str(error) or "nothing"
        if store:
            kept = recorded(Path(store))
    except KeyboardInterrupt:
        said = "outside"
    print(json.dumps([wait, said, made, kept, finite]), flush=True)
"""


def trials(count, seed, store=""):
    """Return ``[wait, said, made, kept, finite]`` of each of so many interrupted runs."""
    done = subprocess.run(
        [sys.executable, "-c", TRIALS, str(count), str(seed), str(store)],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("stored", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("count", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_an_interrupt_at_any_moment_keeps_the_draws(tmp_path, stored, count):
    """Either the draws come back, of all chains alike, or none was made (seed 8 of the moments).

    Every third signal comes at any time, the others once draws are made.
    """
    found = trials(count, 8, tmp_path / "run.zarr" if stored else "")
    assert len(found) == count
    for wait, said, made, kept, finite in found:
        told = f"after {wait:.2f} s: {said!r}, {made} draws"
        assert finite, told
        if said:
            assert said == "interrupted before every chain had a draw: there is nothing to keep"
            assert made == kept == 0, told
        else:
            assert made > 0 and (made == kept or not stored), told
    assert any(made for _, _, made, _, _ in found)
