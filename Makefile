# Everything runs in .venv, made from constraints.txt on first use. PYTHON names another interpreter.
PYTHON ?= python3
VENV := .venv/bin
# a clone without the whole suite beside it has the cases of its own methods
CASES ?= $(firstword $(wildcard ../shared/parity) tests/parity/cases)
METHODS := $(patsubst conversion_scripts/convert_%.py,%,$(wildcard conversion_scripts/convert_*.py))

.PHONY: venv demo test conformance parity lint tables clean

venv: .venv/.complete

.venv/.complete: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(VENV)/python -m pip install --quiet --upgrade --constraint constraints.txt --editable ".[test]"
	touch $@

demo: venv  ## pre-train, probe and fine-tune a small EAT on the built-in corpus
	$(VENV)/hf-audio-ssl demo --output demo_output

test: venv  ## the default test suite
	$(VENV)/python -m pytest -n 2 tests

conformance: venv  ## transformers' own model and feature-extractor tests, for every method
	$(VENV)/python -m hf_audio_ssl.testing.conformance

parity: venv  ## outputs of the original code, for every method with a conversion script
	@for method in $(METHODS); do \
		$(VENV)/python -m hf_audio_ssl.testing.parity $(CASES) --method $$method || exit 1; \
	done

lint: venv
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .

tables: venv  ## rewrite the generated tables of README and cards from the registry
	$(VENV)/hf-audio-ssl card --update

clean:
	rm -rf .venv build demo_output outputs *.egg-info
