# make          set up, then run the default recipe from speech to the table
# make stages RECIPE=speechocean762 CORPUS=DIR [EXP=DIR] [SET="key=value ..."]
# make teachers run up to that stage; likewise prepare features align soft-targets student score report
# make test     everything that CI runs; make lint, make type: parts of it

RECIPE ?= espeak
CORPUS ?=
EXP ?=
SET ?=
PYTHON ?= python3

BIN := .venv/bin
RUN = $(BIN)/asrdistill run "$(RECIPE)" $(if $(EXP),--exp "$(EXP)") $(if $(CORPUS),--set "corpus.path=$(CORPUS)") \
	$(foreach setting,$(SET),--set '$(setting)')

STAGES := prepare features align teachers soft-targets student score report

.PHONY: stages setup $(STAGES) status test lint type format

stages: report

$(STAGES): setup
	@$(RUN) --stage $@

status: setup
	@$(BIN)/asrdistill status "$(or $(EXP),exp/$(basename $(notdir $(RECIPE))))"

setup: $(BIN)/.installed

$(BIN)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "error: $(PYTHON) is not Python 3.11 to 3.13; run make PYTHON=python3.12, say" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

test: setup lint type
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check asrdistill tests
	$(BIN)/ruff format --check asrdistill tests

type: setup
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix asrdistill tests
	$(BIN)/ruff format asrdistill tests
