"""A compiled graph gives the graph's numbers, wherever it is loaded, and is refused where it is not what was compiled."""

import copy
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtserve.cli.main import main
from rtserve.errors import ExportError, InputError
from rtserve.graphs.graph import Graph
from rtserve.graphs.native import generate_graph
from rtserve.graphs.runners import OnnxruntimeRunner, make_runner
from rtserve.native.build import HERE, SOURCES, build
from rtserve.native.compiler import FLAGS, best_level, find_compiler, levels_here
from rtserve.native.load import NativeModule
from tests.fusion.random_graphs import draw

STRICT = ("-Wall", "-Wextra", "-Werror")


def windows(graph, n, scale=1.0, seed=0):
    """Return windows that fit a graph."""
    spec = graph.input_spec
    return (scale * np.random.default_rng(seed).standard_normal((n, spec.n_chans, spec.n_times))).astype("f4")


@pytest.mark.tools
@pytest.mark.parametrize("level", levels_here(), ids=lambda level: level.name)
def test_every_instruction_set_gives_the_graphs_numbers(fused, level):
    built = build(generate_graph(fused), levels=[level], extra=STRICT)
    if levels_here().index(level) > levels_here().index(best_level()):
        pytest.skip(f"this processor has no {level.name}")
    module = NativeModule.of(built)
    reference = OnnxruntimeRunner(fused)
    for batch, scale in ((1, 1.0), (2, 1e-6), (5, 1e-3), (64, 1e2)):
        x = windows(fused, batch, scale, seed=batch)
        got, wanted = module.infer(x), reference.infer(x)
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, atol=2e-6 * max(1e-3, float(np.abs(wanted).max(initial=0))))
    assert module.infer(windows(fused, 0)).shape == (0, *wanted.shape[1:])  # onnxruntime 1.23 fails on none


@pytest.mark.tools
@pytest.mark.parametrize("tiles", [True, False])
def test_answers_do_not_depend_on_what_was_asked_before(fused, tiles):
    module = NativeModule.of(build(generate_graph(fused, tiles=tiles), levels=levels_here()[:1]))
    x = windows(fused, 3)
    first = module.infer(x)
    broken = x.copy()
    broken[1, 2] = np.nan
    spoilt = module.infer(broken)
    assert np.isnan(spoilt[1]).all()
    np.testing.assert_array_equal(spoilt[[0, 2]], first[[0, 2]])
    np.testing.assert_array_equal(module.infer(x), first)


@pytest.mark.tools
@pytest.mark.parametrize("seed", range(12))
def test_random_networks(seed):
    task = draw(seed + 40_000)
    for member in task.members:
        try:
            generated = generate_graph(member)
        except ExportError:  # an operator that C is not written for; test_operators.py has them by name
            continue
        module = NativeModule.of(build(generated, levels=[best_level()], extra=("-O1",)))
        x = windows(member, 4, seed=seed)
        wanted = make_runner(member, "reference").infer(x)
        got, single = module.infer(x), OnnxruntimeRunner(member).infer(x)
        allowed = 1e-5 * max(1e-3, np.abs(wanted).max()) + 4 * np.abs(single - wanted).max()
        assert np.abs(got - wanted).max() <= allowed, task.layers


def command(*words):
    """Run a command; return its exit code."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return end.value.code or 0


@pytest.fixture(scope="module")
def compiled(small_members, tmp_path_factory):
    """A folder with F.onnx and what the command made of it."""
    folder = tmp_path_factory.mktemp("compiled")
    shutil.copy(small_members[0], folder / "F.onnx")
    assert command("compile", folder / "F.onnx", "-o", folder / "F.so") == 0
    return folder


@pytest.mark.tools
def test_command_writes_code_that_runs_without_python(compiled, tmp_path):
    graph, told = Graph.load(compiled / "F.onnx"), json.loads((compiled / "F.json").read_text())
    assert told["levels"] == [level.name for level in levels_here()]
    assert told["flags"] == list(FLAGS)
    assert told["graph"] == graph.digest
    module, x = NativeModule.open(compiled / "F.so"), windows(graph, 3)
    expected = module.infer(x)
    np.testing.assert_allclose(expected, OnnxruntimeRunner(graph).infer(x), rtol=2e-5)
    np.testing.assert_array_equal(copy.deepcopy(module).infer(x), expected)

    for file in (Path(__file__).parent / "answer.c", HERE / "rtserve_native.h", compiled / "F.so"):
        shutil.copy(file, tmp_path)
    find_compiler().run(["-O1", "answer.c", "-o", "answer", "F.so", f"-Wl,-rpath,{tmp_path}"], tmp_path)
    call = [tmp_path / "answer", compiled / "F.weights"]
    said = subprocess.run(call, input=x.tobytes(), capture_output=True, check=True)
    np.testing.assert_array_equal(np.frombuffer(said.stdout, "f4").reshape(expected.shape), expected)


@pytest.mark.tools
def test_same_compiler_gives_the_same_bytes(fused):
    generated = generate_graph(fused)
    one, other = (build(generated, levels=levels_here()[:1]) for _ in range(2))
    assert one.library == other.library
    assert generate_graph(fused).source == generated.source


@pytest.mark.tools
@pytest.mark.parametrize("kind", ["so", "weights", "json"])
def test_what_was_changed_is_refused(compiled, tmp_path, kind):
    for file in compiled.iterdir():
        shutil.copy(file, tmp_path)
    file = tmp_path / f"F.{kind}"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    if kind == "json":
        file.unlink()
    with pytest.raises(InputError, match=r"F\.json|digest"):
        NativeModule.open(tmp_path / "F.so")


@pytest.mark.tools
def test_nothing_is_replaced_unasked(compiled):
    before = {file: file.read_bytes() for file in compiled.iterdir()}
    assert command("compile", compiled / "F.onnx", "-o", compiled / "F.so") == 2
    assert {file: file.read_bytes() for file in compiled.iterdir()} == before


@pytest.mark.tools
@pytest.mark.parametrize("tiles", [True, False])
def test_no_byte_outside_is_read_or_written(fused, tmp_path, tiles):
    """The code with AddressSanitizer and UndefinedBehaviorSanitizer, in a program whose buffers end where they must."""
    generated, compiler = generate_graph(fused, tiles=tiles), find_compiler()
    for name in SOURCES:
        shutil.copy(HERE / name, tmp_path)
    shutil.copy(Path(__file__).parent / "answer.c", tmp_path)
    (tmp_path / "graph.c").write_text(generated.source)
    level = levels_here()[0]
    (tmp_path / "levels.h").write_text(f'RT_LEVEL("{level.name}", here, {level.able})\n')
    checks = [*STRICT, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sizes = [f"-DRT_{key}={n}" for key, n in generated.sizes.items()]
    files = ["graph.c", "dispatch.c", "answer.c"]
    compiler.run([*FLAGS, *level.flags, *checks, *sizes, "-DRT_SUFFIX=here", *files, "-o", "answer", "-lm"], tmp_path)
    (tmp_path / "F.weights").write_bytes(generated.weights.astype("<f4").tobytes())
    x = windows(fused, 2)
    x[1, 0] = np.nan
    done = subprocess.run(
        [tmp_path / "answer", tmp_path / "F.weights"], input=x.tobytes(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[:2000]
    got = np.frombuffer(done.stdout, "f4").reshape(2, -1)
    np.testing.assert_allclose(got[0], OnnxruntimeRunner(fused).infer(x[:1])[0], rtol=1e-5)
    assert np.isnan(got[1]).all()


def test_no_compiler_is_said_in_one_line(monkeypatch, small_members, tmp_path, capsys):
    monkeypatch.setenv("CC", "no-such-compiler")
    assert command("compile", small_members[0], "-o", tmp_path / "F.so") == 4
    said = capsys.readouterr().err
    assert "no C compiler no-such-compiler" in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_coupled_graph_is_refused(small_members):
    graph = Graph.load(small_members[0])
    with pytest.raises(ExportError, match="depend on the batch"):
        generate_graph(replace(graph, output_spec=replace(graph.output_spec, coupled=True)))


def test_output_must_be_a_library(small_members, tmp_path, capsys):
    assert command("compile", small_members[0], "-o", tmp_path / "F.dll") == 2
    assert "F.so" in capsys.readouterr().err
