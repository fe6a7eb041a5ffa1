# Everything a person needs: `make serve` runs the service, `make test` checks and tests it. Both set up .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help serve test check format install soak pictures reproduce peers misbehaviour clean

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

serve: .venv/.installed-serve ## run the service; ALNET_ variables set it up (docs/operations.md)
	$(BIN)/alnet serve

# Tests that judge a server by the clock run alone, behind all others, which share the cores: with one thread each, since
# teams of threads that outnumber the cores wait for each other at every step (a test of 0.6 s took 165). Only their own
# files are read then: importing all others takes 15 s.
test: check ## check, then run the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal -m 'not timed'
	$(BIN)/python -m pytest -m timed $$(grep --recursive --files-with-matches --include='test_*.py' 'mark\.timed' tests)

check: .venv/.installed-dev ## formatting, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.installed-dev ## format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: .venv/.installed-dev ## make .venv with everything: server, training, tests

# SOAK='--seconds 180 --requests 2000' is shorter; SOAK='--leak memory' plants a leak, and must fail.
soak: .venv/.installed-dev ## ten minutes of good, bad and vanishing callers: nothing may grow
	$(BIN)/python -m tests.soak.soak $(SOAK)

pictures: .venv/.installed-dev ## draw docs/images anew with the shipped checkpoints
	$(BIN)/python docs/draw_pictures.py

# What a small budget is; BUDGET='--preset paper' gives the paper's (docs/experiments.md).
BUDGET ?= --preset quick --epochs 10

reproduce: .venv/.installed-dev ## the paper's accuracy tables, small; DATA= is the folder of stare, isbi2012, isic2018
	@test -n "$(DATA)" || { echo 'make reproduce DATA=FOLDER: the folder that holds stare, isbi2012 and isic2018'; exit 2; }
	$(BIN)/alnet reproduce --modality retina --data "$(DATA)/stare" $(BUDGET)
	$(BIN)/alnet reproduce --modality cell --data "$(DATA)/isbi2012" $(BUDGET)
	$(BIN)/alnet reproduce --modality skin --data "$(DATA)/isic2018" $(BUDGET)

peers: .venv/.installed-dev ## our server's speed beside LitServe, BentoML, Ray Serve, mosec and a plain handler (peers/README.md)
	$(BIN)/python -m peers.speed $(PEERS)

misbehaviour: .venv/.installed-dev ## what the same servers do with bad callers: one table
	$(BIN)/python -m peers.misbehaviour $(PEERS)

clean: ## remove .venv and whatever else can be made again
	rm -rf .venv peers/.venvs build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find service tests -name __pycache__ -prune -exec rm -rf {} +

# pip is what comes last into an environment: one that was broken off, or made by a Python that lacks it (Debian's without
# python3-venv), is made again.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

# A stamp is as old as the installation that it stands for. Serving alone needs neither training nor testing libraries.
.venv/.installed-serve: pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) --editable '.[serve,cpu]'
	touch $@

.venv/.installed-dev: pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) --editable '.[serve,cpu,train,quantize,benchmark,dev]'
	touch .venv/.installed-serve $@
