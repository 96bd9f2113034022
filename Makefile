# `make setup`, `make demo`, `make test`: see README.md
PY := .venv/bin/python

.PHONY: lint
lint:
	.venv/bin/ruff check src tests bench
	.venv/bin/ruff format --check src tests bench
	.venv/bin/mypy
	.venv/bin/lint-imports
