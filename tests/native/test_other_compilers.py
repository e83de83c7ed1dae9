"""The same C by clang, for NEON by a cross compiler under qemu, and under valgrind: no warning, the same numbers."""

import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from rtserve.graphs.native import generate_graph
from rtserve.graphs.runners import OnnxruntimeRunner
from rtserve.native.build import HERE, SOURCES, build, defines
from rtserve.native.compiler import FLAGS, LEVELS, best_level, find_compiler, levels_here
from rtserve.native.load import NativeModule
from tests.native.test_native import STRICT, windows

pytestmark = pytest.mark.tools
ARM = "aarch64-linux-gnu-gcc"


@pytest.fixture(scope="module", params=[True, False], ids=["tiles", "direct"])
def generated(request, fused):
    return generate_graph(fused, tiles=request.param, shared=True)


def need(*tools):
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} on this machine")


def close(got, wanted):
    np.testing.assert_allclose(got, wanted, atol=2e-6 * max(1e-3, float(np.abs(wanted).max())))


@pytest.mark.parametrize("level", levels_here(), ids=lambda level: level.name)
def test_clang_makes_the_same_of_it(generated, fused, level):
    need("clang")
    code = build(generated, compiler=find_compiler("clang"), levels=[level], extra=STRICT)
    if levels_here().index(level) > levels_here().index(best_level()):
        pytest.skip(f"this processor has no {level.name}")
    alone, module, x = NativeModule.of(code), NativeModule.of(code, threads=2), windows(fused, 5)
    close(alone.infer(x), OnnxruntimeRunner(fused).infer(x))
    assert b"".join(module.infer(one[None]).tobytes() for one in x) == alone.infer(x).tobytes()


def program(folder, generated, level, compiler, name, *more):
    """Build a program of the tests with a graph in it."""
    for source in (*(HERE / source for source in SOURCES), Path(__file__).parent / f"{name}.c"):
        shutil.copy(source, folder)
    (folder / "graph.c").write_text(generated.source)
    (folder / "levels.h").write_text(f'RT_LEVEL("{level.name}", here, {level.able})\n')
    (folder / "F.weights").write_bytes(generated.weights.astype("<f4").tobytes())
    words = [*FLAGS, *level.flags, *STRICT, *more, *defines(generated), "-DRT_SUFFIX=here", "-pthread"]
    compiler.run([*words, "graph.c", "dispatch.c", f"{name}.c", "-o", name, "-lm"], folder)


def answers(call, folder, x):
    """What the program answers to windows; it must end well."""
    done = subprocess.run(call, input=x.tobytes(), capture_output=True, cwd=folder, timeout=600, check=False)
    assert done.returncode == 0, done.stderr.decode()[:3000]
    return done.stdout


def test_neon_gives_the_graphs_numbers_under_qemu(generated, fused, tmp_path):
    need(ARM, "qemu-aarch64")
    (level,) = LEVELS["aarch64"]
    x = windows(fused, 3)
    x[2, 1, 5] = np.nan
    program(tmp_path, generated, level, find_compiler(ARM), "answer", "-static")
    said = answers(["qemu-aarch64", "./answer", "F.weights"], tmp_path, x)
    got = np.frombuffer(said, "f4").reshape(3, -1)
    close(got[:2], OnnxruntimeRunner(fused).infer(x[:2]))
    assert np.isnan(got[2]).all()


def test_neon_on_threads_gives_the_same_bits_under_qemu(generated, fused, tmp_path):
    need(ARM, "qemu-aarch64")
    program(tmp_path, generated, LEVELS["aarch64"][0], find_compiler(ARM), "threads", "-static")
    said = answers(["qemu-aarch64", "./threads", "F.weights", "2", "6"], tmp_path, windows(fused, 4))
    assert said == b"0 wrong\n"


def test_neon_is_what_the_kernels_become(generated, tmp_path):
    need(ARM)
    for source in SOURCES:
        shutil.copy(HERE / source, tmp_path)
    (tmp_path / "graph.c").write_text(generated.source)
    words = [*FLAGS, *LEVELS["aarch64"][0].flags, "-DRT_SUFFIX=here", "-S", "graph.c", "-o", "graph.s"]
    find_compiler(ARM).run(words, tmp_path)
    assert (tmp_path / "graph.s").read_text().count("fmla\tv") > 100


def test_valgrind_finds_nothing_in_the_code_for_avx2(fused, tmp_path):
    need("valgrind")
    if platform.machine() != "x86_64" or levels_here().index(best_level()) < 1:
        pytest.skip("this processor has no x86-64-v3")
    generated = generate_graph(fused)
    program(tmp_path, generated, levels_here()[1], find_compiler(), "answer", "-g")
    x = windows(fused, 2)
    call = ["valgrind", "-q", "--error-exitcode=9", "--leak-check=full", "./answer", "F.weights"]
    got = np.frombuffer(answers(call, tmp_path, x), "f4").reshape(2, -1)
    close(got, OnnxruntimeRunner(fused).infer(x))
