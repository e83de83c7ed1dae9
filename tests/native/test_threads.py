"""Several threads give the bits that one gives, whoever gets time to help, and end with what they were started for."""

import copy
import gc
import os
import pickle  # noqa: TID251  (only of what is made here)
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rtserve.errors import ExportError, InputError
from rtserve.graphs.graph import Graph
from rtserve.graphs.native import generate_graph
from rtserve.graphs.runners import make_runner
from rtserve.native.build import HERE, SOURCES, build, defines
from rtserve.native.compiler import FLAGS, best_level, find_compiler, levels_here
from rtserve.native.load import NativeModule
from rtserve.native.shares import parts_of
from tests.fusion.random_graphs import draw
from tests.native.test_native import STRICT, windows

pytestmark = pytest.mark.tools


@pytest.fixture(scope="module", params=[True, False], ids=["tiles", "direct"])
def generated(request, fused):
    return generate_graph(fused, tiles=request.param, shared=True)


@pytest.fixture(scope="module")
def built(generated):
    return build(generated, levels=[best_level()], extra=("-O2",))


@pytest.mark.parametrize("level", levels_here(), ids=lambda level: level.name)
def test_any_number_of_threads_gives_the_same_bits(generated, fused, level):
    if levels_here().index(level) > levels_here().index(best_level()):
        pytest.skip(f"this processor has no {level.name}")
    code = build(generated, levels=[level], extra=STRICT)
    alone = NativeModule.of(code)
    for threads in (2, 3, 5):
        module = NativeModule.of(code, threads=threads)
        for batch in (0, 1, 2, 5, 70):
            x = windows(fused, batch, seed=batch)
            wanted = alone.infer(x)
            for _ in range(20 if batch == 1 else 2):
                assert module.infer(x).tobytes() == wanted.tobytes(), (threads, batch)


@pytest.mark.parametrize("seed", range(4))
def test_random_networks_on_two_threads(seed):
    for member in draw(seed + 50_000).members:
        try:
            generated = generate_graph(member, shared=True)
        except ExportError:  # an operator that C is not written for
            continue
        code = build(generated, levels=[best_level()], extra=("-O1",))
        alone, module = NativeModule.of(code), NativeModule.of(code, threads=2)
        for x in windows(member, 4, seed=seed):
            assert module.infer(x[None]).tobytes() == alone.infer(x[None]).tobytes()


def test_one_thread_is_written_as_without_others(fused):
    """What several threads need stands behind it, and the code for one thread keeps its memory and its statements."""
    shared, plain = (generate_graph(fused, shared=shared) for shared in (True, False))
    start = "void RT_NAME(rt_run_)"
    alone = [text.source.partition(start)[2].partition("#include")[0] for text in (shared, plain)]
    assert alone[0].strip() == alone[1].strip()
    assert shared.weights.tobytes() == plain.weights.tobytes()


def test_parts_cover_a_range_once():
    for n in (1, 5, 13, 26, 64, 129):
        for parts in (1, 2, 3, 8):
            for multiple in (1, 8, 32):
                found = parts_of(n, parts, multiple)
                assert [k for a, b in found for k in range(a, b)] == list(range(n))
                assert len(found) <= parts
                assert all(a % multiple == 0 for a, _ in found)


def test_threads_end_with_the_module_and_copies_have_their_own(built, fused):
    def count():
        gc.collect()
        return len(os.listdir("/proc/self/task"))

    before, x = count(), windows(fused, 2)
    module = NativeModule.of(built, threads=3)
    wanted = module.infer(x)
    assert count() == before + 2
    copies = [copy.deepcopy(module), pickle.loads(pickle.dumps(module))]
    assert count() == before + 6
    assert all(one.infer(x).tobytes() == wanted.tobytes() for one in copies)
    del module, copies
    assert count() == before


def test_callers_do_not_disturb_each_other(built, fused):
    module, x = NativeModule.of(built, threads=2), windows(fused, 4)
    wanted = [module.infer(x[k : k + 1]).tobytes() for k in range(4)]
    wrong = []

    def call(k):
        wrong.extend(k for _ in range(50) if module.infer(x[k : k + 1]).tobytes() != wanted[k])

    callers = [threading.Thread(target=call, args=(k,)) for k in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


FORK = """
import os, sys
import numpy as np
from rtserve.native.load import NativeModule
library, weights, x = (np.fromfile(f"{sys.argv[1]}/{name}", np.uint8).tobytes() for name in ("so", "weights", "x"))
x = np.frombuffer(x, "f4").reshape(2, -1)
module = NativeModule(library, weights, threads=3)
wanted = module.infer(x).tobytes()
for _ in range(3):
    child = os.fork()
    if not child:
        same = all(module.infer(x).tobytes() == wanted for _ in range(5)) and len(os.listdir("/proc/self/task")) == 3
        same &= module.infer(x[:1]).tobytes() == wanted[: len(wanted) // 2]
        sys.exit(0 if same else 7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert module.infer(x).tobytes() == wanted
"""


def test_a_fork_starts_threads_of_its_own(built, fused, tmp_path):
    for name, data in (("so", built.library), ("weights", built.weights), ("x", windows(fused, 2).tobytes())):
        (tmp_path / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, tmp_path], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be bound to a core here")
def test_one_core_for_all_threads_is_enough(built, fused):
    """Nobody waits for a helper that gets no time."""
    allowed, x = os.sched_getaffinity(0), windows(fused, 3)
    wanted = NativeModule.of(built).infer(x).tobytes()
    try:
        os.sched_setaffinity(0, {min(allowed)})
        module = NativeModule.of(built, threads=8)
        for _ in range(50):
            assert b"".join(module.infer(x[k : k + 1]).tobytes() for k in range(3)) == wanted
            assert module.infer(x).tobytes() == wanted
    finally:
        os.sched_setaffinity(0, allowed)


def test_code_for_one_thread_is_told_so(fused):
    code = build(generate_graph(fused), levels=levels_here()[:1], extra=("-O1",))
    with pytest.raises(InputError, match="built for one thread"):
        NativeModule.of(code, threads=2)


def test_runner_takes_threads(small_members):
    graph = Graph.load(small_members[0])
    runner = make_runner(graph, "native", threads=2)
    assert runner.module.threads == 2
    x = windows(graph, 3)
    assert runner.infer(x).tobytes() == make_runner(graph, "native").infer(x).tobytes()


def test_no_thread_touches_what_another_writes(generated, fused, tmp_path):
    """The pool and every task under ThreadSanitizer."""
    compiler, level = find_compiler(), levels_here()[0]
    for name in SOURCES:
        shutil.copy(HERE / name, tmp_path)
    shutil.copy(Path(__file__).parent / "threads.c", tmp_path)
    (tmp_path / "graph.c").write_text(generated.source)
    (tmp_path / "levels.h").write_text(f'RT_LEVEL("{level.name}", here, {level.able})\n')
    (tmp_path / "F.weights").write_bytes(generated.weights.astype("<f4").tobytes())
    checks = [*STRICT, "-O1", "-g", "-fsanitize=thread", "-pthread"]
    told = [*defines(generated), "-DRT_SUFFIX=here", "graph.c", "dispatch.c", "threads.c"]
    try:
        compiler.run([*FLAGS, *level.flags, *checks, *told, "-o", "threads", "-lm"], tmp_path)
    except ExportError as error:
        if "tsan" not in error.message:
            raise
        pytest.skip("this compiler has no ThreadSanitizer")
    x = windows(fused, 6).tobytes()
    call = ["setarch", "-R"] * bool(shutil.which("setarch")) + ["./threads", "F.weights", "3", "60"]
    done = subprocess.run(call, input=x, capture_output=True, cwd=tmp_path, timeout=300, check=False)
    said = done.stderr.decode()
    if "unexpected memory mapping" in said or "personality" in said:
        pytest.skip("ThreadSanitizer does not run on this system")
    assert done.returncode == 0, said[:3000]
    assert done.stdout == b"0 wrong\n"
