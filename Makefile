# Two commands: `make demo` shows what this does, `make test` checks that it does it.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PYTEST := python -m pytest tests -n logical --maxprocesses 4 --dist loadgroup
# idle threads sleep: spinning, they slow a training step several times as soon as a core is busy elsewhere
export OMP_WAIT_POLICY = PASSIVE
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: install demo check quick test tables choices lab notebooks benchmarks docs clean
.DEFAULT_GOAL := help

help:
	@echo "make install    set up .venv with the tested versions"
	@echo "make demo       train on a synthetic data set and print the FROC table"
	@echo "make check      lint the code and check its types"
	@echo "make quick      run the tests that matter while working, in two minutes"
	@echo "make test       run every test"
	@echo "make lab        JupyterLab on nbs/"
	@echo "make notebooks  re-execute and clean the library notebooks"
	@echo "make tables     both papers' tables on synthetic data, small preset, one seed"
	@echo "make choices    what VLD chooses, one change at a time, after make tables"
	@echo "make benchmarks time the net and its layers against their rivals"
	@echo "make docs       build the documentation site in docs/_build/html"

install: $(READY)

$(READY): constraints.txt settings.ini setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY)
	lesionlab phantom data/phantom --workers 2
	mkdir -p outputs/demo
	papermill --no-progress-bar nbs/train_vld.ipynb outputs/demo/train_vld.ipynb -p out_dir outputs/demo
	python tools/print_run.py outputs/demo

check: $(READY)
	ruff check
	python tools/check_code.py
	basedpyright

quick: $(READY)
	$(PYTEST) -m "not slow and not real and not browser"

test: $(READY)
	$(PYTEST) --durations 25

tables: $(READY)
	mkdir -p outputs
	papermill --no-progress-bar nbs/vld_tables.ipynb outputs/vld_tables.ipynb -p steps 500 -p jobs 2
	papermill --no-progress-bar nbs/harvest.ipynb outputs/harvest.ipynb
	papermill --no-progress-bar nbs/harvester_tables.ipynb outputs/harvester_tables.ipynb -p steps 500

choices: $(READY)
	papermill --no-progress-bar nbs/vld_choices.ipynb outputs/vld_choices.ipynb -p harvest outputs/harvest -p steps 500 -p jobs 2

lab: $(READY)
	jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/nbs $(if $(filter 0,$(shell id -u)),--allow-root)

notebooks: $(READY)
	python tools/run_notebooks.py

benchmarks: $(READY)
	python -m pip install --quiet --disable-pip-version-check --no-deps ACSConv==0.1.1
	mkdir -p outputs/benchmarks
	papermill --no-progress-bar nbs/benchmarks.ipynb outputs/benchmarks/benchmarks.ipynb

docs: $(READY)
	python tools/build_docs.py

clean:
	rm -rf outputs/demo outputs/cache docs/_build build dist *.egg-info
