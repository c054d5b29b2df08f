# Which Python: by default the newest that fits, as install.sh chooses it.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin

# Where the site is built, and where its first page is then.
SITE := build/site

.PHONY: demo test lint docs benchmarks install release clean

demo: install
	$(BIN)/rushkit demo

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pip check

docs: install
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --builder html --conf-dir docs . $(SITE)
	@echo "the site: $(SITE)/index.html"

benchmarks: install
	benchmarks/run.sh

# RELEASE=--quick borrows the packages of $(VENV) where the empty environment would download them.
release: install
	./release.sh $(BIN)/python $(RELEASE)

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	./install.sh $(VENV) "$(PYTHON)"

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
