# Every target makes its own .venv when it is missing. torch goes in first and pinned: a range
# would bring a newer build with several GB of CUDA packages.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
TORCH  := torch==2.13.0

.PHONY: demo test lint types bench docs reproduce clean

$(VENV)/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt $(TORCH)
	$(PIP) install -q -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/.docs: $(VENV)/.core
	$(PIP) install -q -c constraints.txt -e '.[docs]'
	touch $@

# denoising-diffusion-pytorch asks for torchvision, which its U-Net and its sampling do not need: hence --no-deps.
$(VENV)/.peers: $(VENV)/.dev
	$(PIP) install -q -c constraints.txt -e '.[peers]' einops
	$(PIP) install -q -c constraints.txt --no-deps denoising-diffusion-pytorch ema-pytorch
	touch $@

demo: $(VENV)/.core
	$(BIN)/unstir demo --out runs/demo

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'not slow'

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/basedpyright

bench: $(VENV)/.peers
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/evaluate.py

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -q -W -b html docs docs/_build/html

reproduce: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

clean:
	rm -rf $(VENV) build dist docs/_build .pytest_cache .ruff_cache .hypothesis
