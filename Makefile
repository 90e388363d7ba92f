# make demo | test | check are all a newcomer needs; each makes .venv first. See README.md.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python

.PHONY: help venv demo test test-honest mutate fuzz study bench-records check proto lock

help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv:  ## Make .venv alone
	@scripts/venv.sh

demo: venv  ## Landmarks, a server and four emulated GPU servers; one is moved, one GPU stolen, one falls silent
	@$(PY) -m demo

ifdef T
test: venv  ## All tests with coverage; T=PATH runs a part
	@$(PY) -m pytest $(T)
else
test: venv
	@$(PY) -m pytest -n 2 --dist loadfile -m "not alone" --cov --cov-report= \
	  && $(PY) -m pytest -m alone --cov --cov-append --cov-report=term:skip-covered \
	  && $(PY) -m coverage report --include='verifier/*' --fail-under=100 >/dev/null \
	  || { $(PY) -m coverage report --include='verifier/*' --show-missing --skip-covered >&2; \
	       echo "make test: failed (a test, or verifier/ is below 100 % branch coverage)" >&2; exit 1; }
endif

test-honest: venv  ## An honest fleet, longer than in `make test`: make test-honest ROUNDS=200 [BOARDS=100]
	@TRIGPOINT_HONEST_ROUNDS=$(or $(ROUNDS),200) TRIGPOINT_HONEST_BOARDS=$(or $(BOARDS),100) \
	  $(PY) -m pytest --timeout 0 tests/scenarios/test_honest_fleet.py

mutate: venv  ## Mutation testing of verifier/evidence and verifier/place; M='PATTERN ...' a part
	@scripts/mutate.sh

fuzz: venv  ## Fuzz one parser: make fuzz DOOR=report RUNS=100000 (docs/conformance.md)
	@$(PY) -m tests.fuzz $(DOOR) --runs $(or $(RUNS),100000)

bench-records: venv  ## Sweep and import of a million devices: make bench-records [DEVICES=1000000]
	@$(PY) -m benchmarks.records --devices $(or $(DEVICES),1000000)

check: venv  ## Lint, types, room boundaries, dependencies, proto
	@set -e; export PATH="$$PWD/.venv/bin:$$PATH"; \
	ruff check .; ruff format --check .; mypy; lint-imports --no-cache; deptry .; (cd proto && buf lint); scripts/proto.sh --check; scripts/no-hosts.sh; \
	echo "make check: clean"

study: venv  ## What the rules prove on measured round trips: make study RTT=DIR [SEED=N] [FIGURES=DIR]
	@test -n "$(RTT)" || { echo "make study: which folder? make study RTT=DIR" >&2; exit 2; }
	@$(PY) -m benchmarks.study "$(RTT)" $(if $(SEED),--seed $(SEED)) $(if $(FIGURES),--figures "$(FIGURES)")

proto: venv  ## Regenerate proto/gen from proto/trigpoint
	@scripts/proto.sh

lock: venv  ## Renew requirements.lock
	@.venv/bin/uv pip compile -q --generate-hashes --no-header --universal --python-version 3.11 --group dev pyproject.toml --upgrade -o requirements.lock
