# The verbs of the lab. Each sets up .venv first, once; needs python3 (3.10 or newer), make, git.
#
#   make reproduce    reproduce the papers' results on the bundled data, with a report
#   make lab          open the first notebook in JupyterLab
#   make test         run all tests (make test ARGS="-k pruning")
#   make test-oldest  test with the oldest versions allowed: torch 2.6, ipywidgets 7.7 (as on Colab)
#   make torture      kills, damage, odd settings, ... for hours (make torture ARGS="damage --count 99")
#   make lint         check style and types
#   make course       student, nbgrader and executed copies of the lessons, in build/course
#   make site         the executed lessons as web pages, in build/site
#   make slides       the slides of a lecture, in build/slides
#   make reference    pages of all docstrings and of docs, with a search, in build/site
#   make figures      figures and numbers of README.md and docs, anew from the shipped results
#   make address      addresses and tags as pyproject.toml has them; TO=OWNER/REPO makes it a fork
#   make clean        remove what the above made, .venv included
#
# PYTHON=python3.12 chooses the interpreter that .venv is made with.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/labkit-is-installed
ARGS ?=

# Without bytecode every process compiles torch anew, for seconds; uv leaves that to the first one.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup reproduce lab test test-oldest torture lint course site slides reference figures address \
	constraints clean

help:
	@sed -n 's/^#   \(make.*\)/\1/p' Makefile

setup: $(STAMP)

reproduce: $(STAMP)
	$(BIN)/labkit reproduce $(ARGS)

lab: $(STAMP)
	$(BIN)/labkit lab notebooks $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist load --maxschedchunk 1 $(ARGS)

test-oldest: $(STAMP)
	tests/oldest.sh

torture: $(STAMP)
	$(BIN)/python -m tests.torture $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy labkit tools

course: $(STAMP)
	$(BIN)/python -m tools.course --execute $(ARGS)

site: $(STAMP)
	$(BIN)/python -m tools.site $(ARGS)

slides: $(STAMP)
	$(BIN)/python -m tools.slides $(ARGS)

reference: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

figures: $(STAMP)
	$(BIN)/python -m tools.gallery
	$(BIN)/python -m tools.teaching

address:
	$(PYTHON) tools/address.py $(TO)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) tools/install.py lab test
	@touch $@

# The newest versions, to be committed once `make test` passes with them. Settings of this machine
# (extra indexes, local wheels) are left out, so that the versions exist for everybody.
# (mkdocstrings ended for Python 3.10 before pymdown-extensions 12, with which it does not work.)
constraints:
	test -x $(BIN)/uv || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv; }
	echo "pymdown-extensions<12; python_version < '3.11'" | \
		env -u UV_FIND_LINKS -u UV_INDEX -u UV_EXTRA_INDEX_URL $(BIN)/uv pip compile --no-config \
		--constraint /dev/stdin \
		--universal --python-version 3.10 --no-header --no-annotate --upgrade --quiet --all-extras \
		--output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis tests/screenshots
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
