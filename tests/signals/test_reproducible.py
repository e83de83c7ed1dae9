"""A seed gives the same bytes on every machine: tried with other instruction sets, BLAS kernels and thread counts."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator
from scipy.stats import norm

from rtserve.signals import arithmetic, chance, electrodes, hbn, targets
from tests.conftest import ROOT

CHILD = """
import hashlib, json, os, sys
import numpy as np
from rtserve.files import sha256_file
from rtserve.signals.effects import RELIABILITY, oracle
from rtserve.signals.simulate import simulate
from rtserve.signals.windows import save_windows
from rtserve.training.planted import with_split

files = {}
for target, name in (("response_time", "w.npz"), ("externalizing", "w.h5")):
    windows = with_split(simulate(60, r=0.46, seed=1, target=target))
    files[target] = sha256_file(save_windows(name, windows))
rng = np.random.default_rng(0)
product = rng.random((200, 200)) @ rng.random((200, 200))
canary = hashlib.sha256(product.tobytes() + np.exp(np.linspace(-3, 3, 10_001)).tobytes()).hexdigest()
measured = oracle().reliability if os.environ.get("MEASURE") else RELIABILITY
json.dump({"files": files, "canary": canary, "as measured": measured == RELIABILITY}, sys.stdout)
"""
NUMPY = np._core if hasattr(np, "_core") else np.core  # numpy 2 or 1
DISPATCHED = tuple(NUMPY._multiarray_umath.__cpu_dispatch__)
WIDE = [name for name in DISPATCHED if "512" in name or name == "X86_V4"]
SETTINGS = {
    "as it is, two threads": {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    "no AVX-512": {"NPY_DISABLE_CPU_FEATURES": " ".join(WIDE), "OPENBLAS_CORETYPE": "Haswell"},
    "no AVX, no FMA": {
        "NPY_DISABLE_CPU_FEATURES": " ".join(DISPATCHED),
        "OPENBLAS_CORETYPE": "Nehalem",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-AVX512F",
        "MEASURE": "1",
    },
}


def start(settings: dict[str, str], folder: Path) -> subprocess.Popen[str]:
    folder.mkdir()
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "NPY_", "GLIBC_"))}
    environment = plain | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | settings
    return subprocess.Popen(
        [sys.executable, "-c", CHILD], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )


def test_other_processors_and_threads_give_the_same_files(tmp_path):
    children = [start(values, tmp_path / str(k)) for k, values in enumerate(SETTINGS.values())]
    said = [json.loads(child.communicate()[0]) for child in children]
    assert [one["files"] for one in said] == [said[0]["files"]] * len(SETTINGS)
    assert all(one["as measured"] for one in said)
    if len({one["canary"] for one in said}) == 1:
        pytest.skip("the files are the same, but so is all else: this processor or build has one way of computing")


MACHINE_BOUND = {"exp", "log", "sin", "cos", "arccos", "power", "hypot", "tanh", "sum", "mean", "std", "var", "norm"}
MACHINE_BOUND |= {
    "matmul",
    "dot",
    "einsum",
    "inner",
    "tensordot",
    "solve",
    "lstsq",
    "eigh",
    "svd",
    "corrcoef",
    "interp",
}
MACHINE_BOUND |= {"rfft", "irfft", "standard_normal", "lognormal", "beta", "gamma", "hanning", "trace"}
OURS = {"exp", "log", "lognormal"}
"""Of those, what `rtserve.signals` has as functions of its own, called by their bare names."""
ORACLE = {"features", "marker", "_quadrature", "_whitened_wave", "_spatial_filter", "_measured"}
"""Reads windows and decides none, but for the reliability, which is rounded."""
ROUNDED = {"population_shares"}
"""Depends on no seed, and what is stored of it is rounded."""


def machine_bound(source: str) -> list[str]:
    """Return what in `source`, outside the oracle and what is rounded, could compute other bits on another machine."""
    found = []
    tree = ast.parse(source)
    skip = {
        id(n)
        for f in ast.walk(tree)
        if isinstance(f, ast.FunctionDef) and f.name in ORACLE | ROUNDED
        for n in ast.walk(f)
    }
    for node in ast.walk(tree):
        if id(node) in skip:
            continue
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            found.append(f"line {node.lineno}: @")
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in MACHINE_BOUND and not (isinstance(node.func, ast.Name) and name in OURS):
                found.append(f"line {node.lineno}: {name}")
    return found


@pytest.mark.parametrize("name", ["arithmetic", "chance", "background", "effects", "electrodes", "targets", "simulate"])
def test_nothing_machine_bound_decides_a_window(name):
    found = machine_bound((ROOT / f"rtserve/signals/{name}.py").read_text())
    # The one product of the arithmetic is of whole numbers and checked to be exact.
    assert [what.split(": ")[1] for what in found] == (["matmul"] if name == "arithmetic" else [])


def test_the_rule_above_sees_what_it_is_for():
    source = "import numpy as np\ny = np.exp(x)\nz = a @ b\nw = rng.standard_normal(3)\nfine = exp(x)\n"
    assert sorted(machine_bound(source)) == ["line 2: exp", "line 3: @", "line 4: standard_normal"]


def test_what_is_rounded_lies_clear_of_where_rounding_turns():
    import mne

    from rtserve.signals import effects

    where = mne.channels.make_standard_montage("GSN-HydroCel-129").get_positions()["ch_pos"]
    points = np.array([where[name] for name in electrodes.CHANNELS])
    steps = electrodes._FINE * electrodes._unrounded(points)
    assert np.abs(np.abs(steps - np.floor(steps)) - 0.5).min() > 1e-10 * electrodes._FINE
    measured = 10**effects._DIGITS * effects._measured().reliability
    assert abs(measured - np.floor(measured) - 0.5) > 1e-5 * 10**effects._DIGITS
    assert np.rint(measured) / 10**effects._DIGITS == effects.RELIABILITY


@given(x=st.floats(-600, 600))
def test_functions_are_those_they_are_named_for(x):
    assert arithmetic.exp(np.array([x]))[0] == pytest.approx(np.exp(x), rel=1e-15)
    assert arithmetic.log(np.array([abs(x) + 1e-300]))[0] == pytest.approx(
        np.log(abs(x) + 1e-300), rel=1e-14, abs=1e-15
    )
    turn = 2 * np.pi * (x - np.rint(x))
    assert arithmetic.sine(np.array([x]))[0] == pytest.approx(np.sin(turn), abs=1e-15)
    assert arithmetic.cosine(np.array([x]))[0] == pytest.approx(np.cos(turn), abs=1e-13)
    assert arithmetic.squared_angle(np.array([x / 600]))[0] == pytest.approx(np.arccos(x / 600) ** 2, abs=1e-12)


def test_quantiles_of_the_normal_distribution():
    p = np.concatenate([10.0 ** -np.linspace(0.3, 16, 500), 1 - 10.0 ** -np.linspace(0.3, 15, 500)])
    assert arithmetic.normal_quantile(p) == pytest.approx(norm.ppf(p), rel=1e-13, abs=1e-14)


def test_a_target_runs_monotonely_through_its_known_quantiles():
    for target, known in hbn.QUANTILES.items():
        assert hbn.quantile_function(target, np.array(list(known))) == pytest.approx(list(known.values()), abs=1e-12)
        assert (np.diff(hbn.quantile_function(target, np.linspace(1e-6, 1 - 1e-6, 2000))) >= 0).all()
        pieces = PchipInterpolator(*_knots(target))
        inner = np.linspace(2e-4, 1 - 2e-4, 200)
        assert hbn.quantile_function(target, inner) == pytest.approx(pieces(norm.ppf(inner)), abs=1e-12)


def _knots(target: str) -> tuple[np.ndarray, np.ndarray]:
    starts, cubics = hbn._cubics(target)
    end = hbn.quantile_function(target, np.array([1 - 1e-12]))
    return starts, np.concatenate([cubics[3], end])


def test_a_product_that_could_round_is_refused():
    whole = np.arange(12.0).reshape(3, 4)
    assert np.array_equal(arithmetic.exact_matmul(whole, whole.T), whole @ whole.T)
    for first in (whole + 0.5, whole * 2.0**50):
        with pytest.raises(ArithmeticError, match="not exact"):
            arithmetic.exact_matmul(first, whole.T)


def test_draws_have_the_distributions_they_are_named_for():
    rng = np.random.default_rng(0)
    draws = chance.noise(rng, (400, 1000)) / chance.ONE
    assert (draws.mean(), draws.std()) == pytest.approx((0.0, 1.0), abs=0.005)
    assert (np.abs(draws) < 1.959964).mean() == pytest.approx(0.95, abs=0.002)
    assert np.log(chance.lognormal(rng, -1.0, 0.3, 20_000)).std() == pytest.approx(0.3, rel=0.03)
    even = chance.uniform(rng, -0.1, 2.1, 20_000)
    assert -0.1 <= even.min() < -0.09
    assert 2.09 < even.max() < 2.1


def test_no_share_of_the_population_lies_near_the_middle_between_two_steps():
    points, stored = targets._population()
    exact = targets.STEPS * targets.population_shares(points)
    assert np.abs(exact - np.floor(exact) - 0.5).min() > 1e-11 * targets.STEPS
    assert np.abs(stored - exact / targets.STEPS).max() < 1 / targets.STEPS
