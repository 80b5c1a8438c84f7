# make sweep      install and time the Qwen2.5 shapes, attention included, against NumPy (needs NumPy only)
# make test       install with the [test] extra, run the C tests and pytest
# make lint       formatting, static checks, layer order
# make macos      build for macOS, arm64 and x86-64, without running it (any system; skipped without the ziglang package)
# make qemu       the C tests built for AArch64 and run in an emulator (Debian; skipped where its packages are missing)
# make sanitize   the tests under Address-, UndefinedBehavior- and ThreadSanitizer (SHORT=1: a few minutes)
# make bench      all suites against all peers, into bench-*.csv and bench-*.json
# make clean      remove builds and environments
#
# Each target makes its own virtual environment under .venv-* and keeps it until the sources change. Nothing needs to be
# installed or activated beforehand but Python (3.10 or later) and a C compiler.

PYTHON ?= python3
SHORT ?=
SWEEP ?= --suite qwen25 --suite qwen25_attention --dtype f32,f16,bf16 --peers numpy
PEERS ?= numpy,torch,onnxruntime,mlx
SUITES := qwen25 qwen25_attention matmul_dispatcher matmul_dispatcher_smalln mlx_vs_mps_matmul softmax_dispatcher sdpa blocks

# An active environment, or variables set for another Python, must not leak into ours.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV CONDA_PREFIX
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

SOURCES := pyproject.toml meson.build meson.options $(shell find csrc metal python tuning -type f \
	-not -path '*/__pycache__/*' -not -name '*.pyc' 2>/dev/null)

.PHONY: sweep test lint macos qemu sanitize bench clean
.DELETE_ON_ERROR:

# $(call venv,directory): a virtual environment, made when it is missing
define venv
	@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
endef

.venv-sweep/.done: $(SOURCES)
	$(call venv,.venv-sweep)
	.venv-sweep/bin/python -m pip install -q .
	@touch $@

.venv-test/.done: $(SOURCES)
	$(call venv,.venv-test)
	.venv-test/bin/python -m pip install -q '.[test]' meson ninja meson-python
	@# Strict mode asks a clang: that of the system, else the one in ziglang.
	@command -v clang >/dev/null || .venv-test/bin/python -m pip install -q ziglang==0.17.0 || \
		echo "neither clang nor ziglang: strict mode is not tested"
	@touch $@

.venv-bench/.done: $(SOURCES)
	$(call venv,.venv-bench)
	.venv-bench/bin/python -m pip install -q '.[bench]'
	@touch $@

.venv-lint/.done: pyproject.toml
	$(call venv,.venv-lint)
	.venv-lint/bin/python -m pip install -q clang-format==23.1.5 clang-tidy==23.1.4 ruff==0.17.5 meson ninja
	@touch $@

.venv-macos/.done: pyproject.toml
	$(call venv,.venv-macos)
	.venv-macos/bin/python -m pip install -q meson ninja
	.venv-macos/bin/python -m pip install -q ziglang==0.17.0 || echo "ziglang cannot be installed"
	@touch $@

.venv-qemu/.done: pyproject.toml
	$(call venv,.venv-qemu)
	.venv-qemu/bin/python -m pip install -q meson ninja
	@touch $@

sweep: .venv-sweep/.done
	.venv-sweep/bin/metallic sweep $(SWEEP)

test: .venv-test/.done
	tools/c_tests.sh .venv-test build-test
	PATH="$$PWD/.venv-test/bin:$$PATH" .venv-test/bin/python -m pytest -rs

lint: .venv-lint/.done
	tools/lint.sh .venv-lint

macos: .venv-macos/.done
	tools/cross_macos.sh .venv-macos

qemu: .venv-qemu/.done
	tools/qemu.sh .venv-qemu

sanitize: .venv-test/.done
	SHORT=$(SHORT) tools/sanitize.sh .venv-test

bench: .venv-bench/.done
	for suite in $(SUITES); do \
		.venv-bench/bin/metallic sweep --suite $$suite --dtype f32,f16,bf16 --peers $(PEERS) --resume \
			--out bench-$$suite.csv --json bench-$$suite.json || exit; \
	done

clean:
	rm -rf build build-* .venv-sweep .venv-test .venv-lint .venv-macos .venv-qemu .venv-bench dist .pytest_cache .hypothesis .ruff_cache
