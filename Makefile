# make quick: from nothing to tables and figures in minutes. make help lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
INSTALLED := $(VENV)/.installed
# One workflow at a time in this directory; the lock dies with its holder, however that dies, in a moment.
LOCK := .make.lock
HELD := another make is running a study in this directory: wait for it to end
# In a terminal, progress by stage; elsewhere lines without reasons, which are kilobytes long.
# A killed run leaves its lock; what hinders the unlocking hinders the run too, and is said there.
RUN = @$(BIN)/python workflow/scripts/locked.py $(LOCK) sh -c '\
	[ -z "$$(ls .snakemake/locks 2>/dev/null)" ] || $(BIN)/snakemake --profile local --configfile $(1) --unlock --quiet all; \
	[ ! -t 2 ] || show="--logger rich"; \
	$(BIN)/snakemake --profile local $${show:---quiet host reason} --configfile $(1) $(2)' \
	|| { code=$$?; [ $$code -eq 75 ] && echo "make: $(HELD)" >&2; exit $$code; }
export PATH := $(BIN):$(PATH)

# Before anything is installed for it.
ifneq ($(filter study,$(MAKECMDGOALS)),)
ifeq ($(wildcard $(CONFIG)),)
$(error CONFIG=$(CONFIG): no such file; make study CONFIG=my.yaml)
endif
endif

.DEFAULT_GOAL := help
.PHONY: help install quick full study report dapper docs bench test test-cluster lint clean

help: ## Show this help
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"masf needs Python 3.11 or newer, and this is {v[0]}.{v[1]}: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade --constraint constraints.txt pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[slurm,lsf,test,lint,docs]'
	touch $@

install: $(INSTALLED) ## Create the virtual environment with pinned versions

quick: $(INSTALLED) ## The quick study: tables and figures in results/quick, in minutes
	$(call RUN,config/quick.yaml,)
	@echo "Done: open results/quick/index.html"

full: $(INSTALLED) ## The whole study: tables and figures in results/full, in hours
	$(call RUN,config/config.yaml,)
	@echo "Done: open results/full/index.html"

study: $(INSTALLED) ## The study of another config: make study CONFIG=my.yaml
	$(call RUN,$(CONFIG),)

report: quick ## The quick study's report: results/quick/report.html
	$(call RUN,config/quick.yaml,--report results/quick/report.html)

.venv-dapper/.installed: workflow/envs/dapper-requirements.txt workflow/envs/dapyr-requirements.txt
	$(PYTHON) -m venv .venv-dapper
	.venv-dapper/bin/pip install --quiet --requirement workflow/envs/dapper-requirements.txt
	.venv-dapper/bin/pip install --quiet --no-deps --requirement workflow/envs/dapyr-requirements.txt
	touch $@

dapper: .venv-dapper/.installed ## Create .venv-dapper, which the filters dapper_* and dapyr_lpf run in (config/dapper.yaml)

docs: $(INSTALLED) ## Build the documentation into site; fails on a link that leads nowhere
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict  # with --quiet it would count no warnings

bench: $(INSTALLED) ## Run the benchmarks, each beside its rival: benchmarks/results/bench.csv, in minutes
	$(BIN)/python benchmarks/bench.py

test: $(INSTALLED) ## Run the tests, file beside file; one worker more than cores, because those of the cluster mostly wait
	$(BIN)/python -m pytest --numprocesses $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist loadfile --no-loadscope-reorder

test-cluster: $(INSTALLED) ## Run a study, the quick one without CONFIG=, on a SLURM of one node, started for it (as root; installs SLURM with apt)
	MASF_TEST_INSTALL=1 PYTHONPATH=tests $(BIN)/python tests/slurm/cluster.py snakemake --profile slurm --configfile $(or $(CONFIG),config/quick.yaml) \
		--config gpu=false results=results/slurm --slurm-status-command squeue --slurm-init-seconds-before-status-checks 5

lint: $(INSTALLED) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check workflow
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakemake --lint --configfile config/quick.yaml
	[ ! -x $(BIN)/hadolint ] || $(BIN)/hadolint workflow/Containerfile  # which has no wheel for every machine

clean: ## Remove the virtual environments; results stay
	rm -rf $(VENV) .venv-dapper
