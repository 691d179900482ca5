PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint pages clean

demo: $(VENV)/ready
	$(BIN)/python main.py --config exps/quickstart.json

test: $(VENV)/ready
	$(BIN)/python -m pytest

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# what is written from the schema and from the experiments; a test sees that it is up to date
pages: $(VENV)/ready
	$(BIN)/python -m utils.pages docs/configs.md exps/schema.json exps/README.md

$(VENV)/ready: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

clean:
	rm -rf $(VENV)
