# pathfit. `make setup`, `make demo`, `make test` is all a newcomer needs; CONTRIBUTING.md has the rest.
# Everything that makes packets runs under tools/isolated: the only link there is lo, nothing outside is touched.
BIN := .venv/bin
STATES := /var/lib/pathfit /run/pathfit
CHECKED := src tests/unit tests/cover tests/healthy tests/hostile tests/scenarios tests/servers tests/engines tests/kernels tests/oracle tests/repair \
  tests/*.py bench tools

QUICK := tools/isolated $(BIN)/pytest -m "not slow and not matrix"
SLOW := tools/isolated $(BIN)/pytest -m slow
# About half of what tests/engines takes; the other half runs beside it.
ENGINES := $(patsubst %,tests/engines/test_%.py,kinds nested podman tunnels killed setups weave host)

# About half of the slow tests elsewhere. (tests/kernels runs alone: a guest for each of two processors, and nothing waits.)
OTHERS := tests/unit tests/hostile

.PHONY: setup engines-setup demo test test-all lint onefile bench bench-cure bench-oracle bench-kernels bench-trace bench-trace-labs fuzz record-demo uninstall

setup: ## .venv with the command .venv/bin/pathfit
	@sh tools/setup.sh

engines-setup: ## also the container engines, servers and kernels that test-all starts in labs; none is started by this
	@sh tools/setup.sh --engines

demo: setup ## builds a lab with a fault, shows it, diagnoses it, proves the repair
	@$(BIN)/pathfit demo

test: setup ## unit tests, acceptance labs, scenarios; two halves side by side, because most of it is waiting
	@$(BIN)/python tools/outside.py $(BIN)/python tools/beside.py '$(QUICK) tests --ignore=tests/unit' '$(QUICK) tests/unit'

test-all: engines-setup ## what `make test` leaves out because it takes minutes: real engines, real servers, other kernels
	@$(BIN)/python tools/outside.py $(BIN)/python tools/beside.py '$(SLOW) $(ENGINES)' \
	  '$(SLOW) tests/engines $(ENGINES:%=--ignore=%)'
	@$(BIN)/python tools/outside.py $(SLOW) tests/kernels
	@$(BIN)/python tools/outside.py $(BIN)/python tools/beside.py '$(SLOW) $(OTHERS)' \
	  '$(SLOW) tests $(OTHERS:%=--ignore=%) --ignore=tests/engines --ignore=tests/kernels'

lint: setup
	@$(BIN)/ruff check $(wildcard $(CHECKED))
	@$(BIN)/ruff format --check $(wildcard $(CHECKED))
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python tools/lint_sizes.py src tools

onefile: setup ## dist/pathfit-probe.py: `probe` as one file for any Python from 3.8 on, nothing to install
	@$(BIN)/python tools/onefile -o dist/pathfit-probe.py

bench-cure: setup ## every scenario repaired and undone, by every repair there is; a quarter of an hour
	@tools/isolated $(BIN)/pytest -m matrix tests

bench-oracle: setup ## 500 random labs: what the model predicts against what the kernel does; five to ten minutes
	@tools/isolated $(BIN)/python bench/oracle.py

bench-trace-labs: setup ## 300 random labs with one fault each: does `pathfit trace` say where, and why; a quarter of an hour
	@tools/isolated $(BIN)/python bench/trace_labs.py

bench-kernels: engines-setup ## what fits into tunnels, predicted and measured on Debian's 6.1 and 6.12, as a page
	@tools/isolated $(BIN)/python bench/kernels.py

bench-trace: setup ## what a watch costs who sends beside it, and whether it counts what it misses; beside tcpdump, bpftrace
	@tools/isolated $(BIN)/python -m bench.trace_overhead

bench: ## side by side with other tools, in one run
	@sh tools/setup.sh --all
	@tools/isolated $(BIN)/python -m bench

fuzz: setup ## every decoder of trace, SECONDS each, with coverage as the guide; installs atheris into .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	@$(BIN)/python tools/fuzz.py --seconds $(or $(SECONDS),60)

record-demo: setup ## the case that `demo` replays where namespaces are refused
	@rm -rf src/pathfit/cli/recorded
	@$(BIN)/pathfit demo --save src/pathfit/cli/recorded >/dev/null

uninstall: ## undoes repairs, removes labs, .venv, caches, state
	@[ ! -x $(BIN)/pathfit ] || $(BIN)/pathfit fix --undo all || \
	  { echo "not removed: the journals say how it was (pathfit fix --list); make uninstall again afterwards"; exit 1; }
	@[ ! -x $(BIN)/pathfit ] || $(BIN)/pathfit lab down all >/dev/null 2>&1 || :
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist build
	@find src tests tools bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || :
	@rm -rf "$${XDG_STATE_HOME:-$$HOME/.local/state}/pathfit" "$${XDG_CACHE_HOME:-$$HOME/.cache}/pathfit"
	@[ "$$(id -u)" != 0 ] || rm -rf $(STATES)
	@echo "removed; only this folder's sources are left"
