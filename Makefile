# Every target sets itself up: `make demo` in a fresh clone needs only python3 and make.

BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help setup demo test test-all test-lowest check bench gallery clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

setup: $(STAMP)  ## find Python >= 3.12, build .venv with pinned versions

$(STAMP): pyproject.toml constraints.txt .ci/setup.sh
	@sh .ci/setup.sh
	@touch $@

demo: $(STAMP)  ## three neutron measurements of one film: joint posterior, as a page
	@$(BIN)/bayesjoint run models/reflectometry.py --out demo_output --overwrite

test: $(STAMP)  ## the quick tests; ARGS="-k noise" selects among them
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow" $(ARGS)

test-all: $(STAMP)  ## every test, the long statistical ones too
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile $(ARGS)

test-lowest: $(STAMP)  ## some tests with the lowest versions that pyproject.toml allows
	@sh .ci/lowest.sh

check: $(STAMP)  ## lint, formatting, types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

bench: $(STAMP)  ## effective draws a second, with and without preconditioning
	@$(BIN)/python tests/bench_sampling.py
	@$(BIN)/python tests/bench_discrepancy.py
	@$(BIN)/python tests/bench_refinement.py
	@$(BIN)/python tests/bench_exact.py
	@$(BIN)/python tests/bench_edges.py
	@$(BIN)/python tests/bench_data_sets.py
	@$(BIN)/python tests/bench_recentring.py

gallery: $(STAMP)  ## run the case studies, draw the pictures of case_studies/README.md
	@$(BIN)/python case_studies/gallery.py

clean:  ## remove results and caches (.venv stays)
	@rm -rf demo_output build dist .mypy_cache .pytest_cache .ruff_cache
	@find bayesjoint models case_studies tests -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
