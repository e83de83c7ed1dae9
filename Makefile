# Every target sets up what it needs by itself; .venv is made once and remade when its inputs change.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install test demo zoo bench lint types contract readme test-envs test-browser clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null 2>&1 && $(PYTHON) -c "" >/dev/null 2>&1 && P=$(PYTHON) || P=python3; test -x $(BIN)/python || $$P -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[braindecode,openvino,dask,test,dev]"
	@# The torchaudio that braindecode imports is a CUDA build; without its compiled half it runs in pure Python.
	@rm -f $(VENV)/lib/python3*/site-packages/torchaudio/lib/*.so
	@touch $(STAMP)

test: install
	$(BIN)/python -m pytest

demo: install
	$(BIN)/rtserve demo

zoo: install
	$(BIN)/python benchmarks/zoo.py

bench: install
	$(BIN)/python -m pytest benchmarks -p benchmark

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

contract: install
	$(BIN)/lint-imports

readme: install
	$(BIN)/python tests/readme_blocks.py --write

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache
