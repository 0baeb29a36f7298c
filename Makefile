# The grokking companion. Every target works as the first command in a fresh clone:
# what it needs is installed into .venv first, and costs nothing when it is there.

.DEFAULT_GOAL := help
.PHONY: help book print test env check lab serve bench clean

VENV := .venv
PY   := $(VENV)/bin/python
PORT ?= 8000

# Read by `make book` and `make serve`. Handed over in the environment, so that quotes in P survive.
export PROFILE ONLY P FRESH JOBS MINUTES PORT

# The sources of this folder, whatever the reader's own settings say.
export PYTHONPATH := $(CURDIR):$(CURDIR)/book
unexport PYTHONHOME PYTHONSTARTUP

help:
	@echo "make book    execute the notebooks, render the site         (environment included)"
	@echo "             PROFILE=smoke|laptop|overnight|paper   ONLY=notebook   JOBS=n"
	@echo "             P=\"name=value ...\"   FRESH=1 trains everything again   MINUTES=m trains no longer"
	@echo "make print   the same, and all of it as one page and, with a Chromium, as a PDF"
	@echo "make test    the tests"
	@echo "make check   lint, format, types, notebooks without outputs"
	@echo "make env     only the environment, in $(VENV)"
	@echo "make lab     JupyterLab on the notebooks"
	@echo "make serve   the built site on http://localhost:$(PORT)"
	@echo "make bench   the benchmarks: a table, and build/bench.json"
	@echo "make clean   delete what was built, never the records"
	@echo
	@echo "PYTHON=/path/to/python chooses the interpreter, PIP_FLAGS=... is handed to pip."

book: $(VENV)/.ready-book
	@$(PY) -m grokking_book.make

print: book
	@$(PY) -m grokking_book.make.pdf

test: $(VENV)/.ready-test
	OMP_NUM_THREADS=1 $(PY) -m pytest -n auto

check: $(VENV)/.ready-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright
	$(PY) -c 'from importlinter.cli import lint_imports_command as lint; lint()'
	$(PY) -m nbstripout --verify $$(find book -name '*.ipynb' -not -path '*/.*')

env: $(VENV)/.ready-book

lab: $(VENV)/.ready-lab
	$(PY) -m jupyterlab book

serve: $(VENV)/.ready-book
	@$(PY) -m grokking_book.make.serve

bench: $(VENV)/.ready-book
	$(PY) -m grokking_core bench --output build/bench.json

clean:
	@pid=$$(sed -n 's/process \([0-9]*\),.*/\1/p' build/building 2>/dev/null); \
	if [ -n "$$pid" ] && kill -0 $$pid 2>/dev/null; then \
		echo "make clean: a build is at work in this clone: $$(cat build/building)" >&2; exit 1; fi
	rm -rf build *.egg-info .pytest_cache .ruff_cache

# One environment; a stamp for each set of extras, renewed when what it was made from changes.
$(VENV)/.ready-%: pyproject.toml setup.py constraints.txt $(VENV)/.made-for | $(PY)
	@echo "Installing what '$*' needs into $(VENV) (a few minutes, once) ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check --prefer-binary $(PIP_FLAGS) \
		--constraint constraints.txt --editable ".[$*]"
	@touch $(VENV)/.ready-book $@

# An environment is of one folder and one Python. In a copied or moved clone the project is installed anew;
# where the Python it was made with is gone or upgraded, all is.
$(VENV)/.made-for: FORCE | $(PY)
	@$(PY) -c 'import pip' 2>/dev/null || { \
		echo "$(VENV) was made with another Python: it is made anew"; rm -rf $(VENV); $(MAKE) --no-print-directory $(PY); }
	@[ "$$(cat $@ 2>/dev/null)" = "$(CURDIR)" ] || { \
		[ ! -f $@ ] || echo "$(VENV) was made in $$(cat $@): the project is installed anew"; echo "$(CURDIR)" > $@; }

FORCE:

define PYTHON_CHECK
import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
endef

$(PY):
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
		if $$python -c '$(PYTHON_CHECK)' 2>/dev/null; then \
			echo "Making $(VENV) with $$($$python --version) ($$(command -v $$python))"; \
			exec $$python -m venv --clear $(VENV); \
		fi; \
	done; \
	echo "No Python 3.11, 3.12 or 3.13 with its venv module was found (on Debian and Ubuntu:" >&2; \
	echo "apt install python3-venv). Name one with: make PYTHON=/path/to/python" >&2; \
	exit 1
