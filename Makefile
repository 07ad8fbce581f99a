# make          set up, then run the default recipe from speech to the table
# make stages RECIPE=speechocean762 CORPUS=DIR [EXP=DIR] [SET="key=value ..."]
# make teachers run up to that stage; likewise prepare features align soft-targets student controls score report
# make test     everything that CI runs; make lint, make type: parts of it; make test-kill: training killed 200 times
# make bench    speed, as ratios, to exp/bench.json; make bench ONLY=train runs a part

RECIPE ?= espeak
CORPUS ?=
EXP ?=
SET ?=
ONLY ?=
PYTHON ?= python3

BIN := .venv/bin
RUN = $(BIN)/asrdistill run "$(RECIPE)" $(if $(EXP),--exp "$(EXP)") $(if $(CORPUS),--set "corpus.path=$(CORPUS)") \
	$(foreach setting,$(SET),--set '$(setting)')

STAGES := prepare features align teachers soft-targets student controls score report

.PHONY: stages setup $(STAGES) status test test-kill lint type format bench

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
	$(BIN)/python -m pytest -n auto --dist loadfile

# Training, and a dump of soft targets with its student, killed 200 times at random moments each, resumed, the same
# bytes; some minutes.
test-kill: setup
	NUM_KILLS=200 $(BIN)/python -m pytest -s tests/nn/test_killed_training.py tests/targets/test_killed_dump.py

lint: setup
	$(BIN)/ruff check asrdistill tests
	$(BIN)/ruff format --check asrdistill tests

type: setup
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix asrdistill tests
	$(BIN)/ruff format asrdistill tests

bench: setup
	@$(BIN)/python tests/benchmarks/run.py --only "$(ONLY)"
