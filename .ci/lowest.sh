#!/bin/sh
# Build .venv-lowest with the lowest versions that pyproject.toml allows, and run some tests in it.
# PYTHON=/path/to/python3.12 chooses the interpreter; remove .venv-lowest to build it anew.
set -eu
cd "$(dirname "$0")/.."

venv=.venv-lowest
constraints=$venv/constraints.txt
python=${PYTHON:-.venv/bin/python}
[ -x $venv/bin/python ] || "$python" -m venv $venv
"$python" .ci/lowest.py >$constraints.new
if ! cmp -s $constraints.new $constraints; then
    echo "lowest: installing (a few minutes the first time)" >&2
    $venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --constraint $constraints.new --editable '.[plots]' pytest
    mv $constraints.new $constraints
fi
# What touches the most of what other packages changed: arrays and labels, files, one sampled run.
OPENBLAS_NUM_THREADS=1 $venv/bin/python -m pytest -q -m "not slow" -p no:cacheprovider ${ARGS:-} \
    tests/test_lowest.py tests/test_packing.py tests/test_files.py tests/test_grids.py
