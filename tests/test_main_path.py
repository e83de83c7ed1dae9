"""The whole path as a user types it: export, inspect, fuse, evaluate, bench, build, check; and what is typed wrong.

Once on checkpoints that the test makes, once on the real ones; both in a folder of their own, by the command line's
own entry. README's blocks are typed into a shell (tests/test_readme.py).
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from rtserve.cli.main import main
from rtserve.files import sha256_file
from rtserve.graphs.graph import Graph
from rtserve.graphs.runners import OnnxruntimeRunner, ReferenceRunner

VIEWS = "identity,roll:+3,roll:-3,scale:1.02,scale:0.98"
OWN = "rtserve.training.networks:exporter"


class Done(NamedTuple):
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


def rtserve(folder: Path, *argv: object, code: int = 0) -> Done:
    """Run the command line in `folder` and insist on its exit code; in this process, which has loaded torch already."""
    typed, out, err = [str(argument) for argument in argv], io.StringIO(), io.StringIO()
    talk = contextlib.ExitStack()
    for context in (contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)):
        talk.enter_context(context)
    with talk, pytest.raises(SystemExit) as caught:
        main(typed)
    done = Done(int(caught.value.code or 0), out.getvalue(), err.getvalue())
    assert done.returncode == code, f"{' '.join(typed)}\n{done.stdout}\n{done.stderr}"
    return done


def from_json(done: Done) -> dict:
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def made(session_dir, tmp_path_factory):
    """A folder with two checkpoints for challenge 1, one for challenge 2, windows for both, and three graphs."""
    import torch

    from rtserve.training.networks import CompactRT

    folder = tmp_path_factory.mktemp("path")
    for seed in (1, 2, 3):
        torch.manual_seed(seed)
        network = CompactRT(129, input_scale=1e5).train()
        for _ in range(3):
            network(1e-5 * torch.randn(16, 129, 200))
        torch.save({"model_state_dict": network.state_dict(), "seed": seed}, folder / f"seed{seed}.pth")
    rtserve(folder, "simulate", "-o", "W1.npz", "--windows", 60, "--r", 0.46, "--seed", 1)
    rtserve(folder, "simulate", "-o", "W2.npz", "--windows", 60, "--r", 0.21, "--seed", 2, "--target", "externalizing")
    for seed, target in ((1, "response_time"), (2, "response_time"), (3, "externalizing")):
        rtserve(folder, "export", f"seed{seed}.pth", "--exporter", OWN, "--set", f"target={target}", "--sfreq", 100,
                "-o", f"M{seed}.onnx")  # fmt: skip
    rtserve(folder, "fuse", "M1.onnx", "M2.onnx", "--views", VIEWS, "--merge", "mean", "-o", "F.onnx")
    return folder


def by_hand(folder: Path, members: list[str], x: np.ndarray) -> np.ndarray:
    """The mean over members and the five views, each member in float64 by onnx's own evaluator."""
    seen = [x, np.roll(x, 3, -1), np.roll(x, -3, -1), np.float32(1.02) * x, np.float32(0.98) * x]
    return np.mean([ReferenceRunner(Graph.load(folder / m)).infer(v) for m in members for v in seen], axis=0)


def test_the_fused_graph_gives_the_mean_of_its_branches(made):
    x = (1e-5 * np.random.default_rng(0).standard_normal((3, 129, 200))).astype("f4")
    got = OnnxruntimeRunner(Graph.load(made / "F.onnx")).infer(x)
    assert np.abs(got - by_hand(made, ["M1.onnx", "M2.onnx"], x)).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("seed1.pth", "checkpoint", ["features.0.weight", "32 x 129 x 7", "74,753", "model_state_dict", "seed"]),
        ("M1.onnx", "graph", ["129 channels x 200 samples at 100 Hz in V", "input-scale", "seed1.pth"]),
        ("F.onnx", "graph", ["roll:+3", "scale:0.98", "seed1.pth", "seed2.pth", "mean"]),
        ("W1.npz", "window set", ["60 x 129 x 200", "response_time", "subjects"]),
    ],
)
def test_inspect_says_what_a_file_holds(made, cli, name, kind, told):
    code, out, _ = cli("inspect", made / name)
    assert code == 0
    assert all(text in out for text in told), out
    report = json.loads(cli("inspect", made / name, "--json")[1])
    assert (report["schema"], report["kind"]) == ("rtserve.inspect/1", kind)
    assert report["sha256"] == sha256_file(made / name)


def test_evaluate_scores_the_fused_graph_beside_the_constant(made):
    report = from_json(rtserve(made, "evaluate", "F.onnx", "--data", "W1.npz", "--json"))
    with np.load(made / "W1.npz") as arrays:
        X, y = arrays["X"], arrays["y"].astype("f8")
    p = OnnxruntimeRunner(Graph.load(made / "F.onnx")).infer(X)[:, 0].astype("f8")
    wanted = np.sqrt(np.mean((p - y) ** 2)) / y.std()
    text = json.dumps(report)
    assert "nrmse|norm:std|ddof:0|" in text
    values = [score["value"] for score in report["scores"] if score["signature"].startswith("nrmse|norm:std|ddof:0")]
    assert values == [pytest.approx(wanted, rel=1e-4)]


def test_evaluate_weighs_the_two_challenges(made):
    c1, c2 = ("F.onnx", "W1.npz"), ("M3.onnx", "W2.npz")
    said = rtserve(made, "evaluate", "--c1", *c1, "--c2", *c2).stdout
    one, two = (
        from_json(rtserve(made, "evaluate", graph, "--data", data, "--json"))["scores"][0]["value"]
        for graph, data in (c1, c2)
    )
    line = next(line for line in said.splitlines() if line.startswith("overall"))
    assert float(line.split(" = ")[2].split()[0]) == pytest.approx(0.3 * one + 0.7 * two, abs=1e-4)


def test_bench_says_ratio_threads_and_batch(made):
    report = from_json(rtserve(made, "bench", "F.onnx", "--against", "M1.onnx", "--rounds", 4, "--json"))
    assert (report["schema"], report["batch"], report["threads"]) == ("rtserve.bench/1", 1, 1)
    said = rtserve(made, "bench", "F.onnx", "--against", "M1.onnx", "--rounds", 4).stdout
    assert all(word in said for word in ("batch 1", "1 thread", "p50", "p90", "windows/s", "F.onnx takes"))


RECIPE = """
profile = "eeg2025"

[challenges.1]
views = ["identity", "roll:+3", "roll:-3", "scale:1.02", "scale:0.98"]
merge = "mean"

[[challenges.1.members]]
graph = "M1.onnx"
sha256 = "{0}"

[[challenges.1.members]]
graph = "M2.onnx"
sha256 = "{1}"

[[challenges.2.members]]
graph = "M3.onnx"
sha256 = "{2}"
"""


@pytest.fixture(scope="module")
def zipped(made):
    digests = [sha256_file(made / f"M{seed}.onnx") for seed in (1, 2, 3)]
    (made / "submission.toml").write_text(RECIPE.format(*digests))
    rtserve(made, "build", "submission.toml", "-o", "dist/S.zip")
    return made / "dist" / "S.zip"


def test_build_gives_the_same_bytes_again(made, zipped):
    before = sha256_file(zipped)
    rtserve(made, "build", "submission.toml", "-o", "dist/S.zip", "--force")
    assert sha256_file(zipped) == before


def test_inspect_tells_the_members_of_a_zip(zipped, cli):
    report = json.loads(cli("inspect", zipped, "--json")[1])
    assert report["kind"] == "submission"
    digests = {entry["key"]: entry["sha256"] for entry in report["files"]}
    assert {"submission.py", "manifest.json", "challenge_1.onnx", "challenge_2.onnx"} <= digests.keys()
    assert all(digests[name] == digest for name, digest in report["manifest"]["files"].items())


def test_check_passes_what_was_built(made, zipped):
    done = rtserve(made, "check", zipped, "--profile", "eeg2025")
    assert "passed" in done.stdout.splitlines()[-2]


def test_the_zip_gives_the_graphs_numbers_with_torch_alone(made, zipped, tmp_path):
    """In a process where onnx, onnxruntime, numpy and rtserve cannot be imported, from another folder."""
    with __import__("zipfile").ZipFile(zipped) as archive:
        archive.extractall(tmp_path / "res")
    script = tmp_path / "drive.py"
    script.write_text(
        "import sys\n"
        "for name in ('onnx', 'onnxruntime', 'rtserve', 'braindecode', 'numpy'): sys.modules[name] = None\n"
        f"sys.path.insert(0, {str(tmp_path / 'res')!r})\n"
        "import torch\n"
        "from submission import Submission\n"
        "x = 1e-5 * torch.randn(3, 129, 200, generator=torch.Generator().manual_seed(0))\n"
        "model = Submission(100, torch.device('cpu')).get_model_challenge_1()\n"
        "model.eval()\n"
        "with torch.inference_mode():\n"
        "    print([float(model.forward(w[None])[0][0]) for w in x])\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    import torch

    x = (1e-5 * torch.randn(3, 129, 200, generator=torch.Generator().manual_seed(0))).numpy()
    wanted = by_hand(made, ["M1.onnx", "M2.onnx"], x)[:, 0]
    assert np.abs(np.array(json.loads(done.stdout)) - wanted).max() < 1e-5


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.needs("braindecode.models")
def test_the_real_checkpoints_go_the_whole_way(shared_dir, repo_dir, exported, tmp_path):
    """To a score and a time; tests/submission/test_bundle.py builds and checks the recipe of the real ones."""
    checkpoints, exporters = shared_dir / "checkpoints", repo_dir / "exporters"
    member = exported(checkpoints / "compact_rt/seed42.pth", str(exporters / "compact_rt.py"))
    (tmp_path / "M.onnx").write_bytes(member.read_bytes())
    eegnex = f"{exporters / 'braindecode_models.py'}:EEGNeX"
    other = exported(checkpoints / "eegnex/challenge2_r1r2_best.pth", eegnex, target="externalizing")
    (tmp_path / "E.onnx").write_bytes(other.read_bytes())
    rtserve(tmp_path, "fuse", "M.onnx", "--views", VIEWS, "--merge", "mean", "-o", "F.onnx")
    x = np.random.default_rng(0).standard_normal((2, 129, 200)).astype("f4")
    got = OnnxruntimeRunner(Graph.load(tmp_path / "F.onnx")).infer(x)
    assert np.abs(got - by_hand(tmp_path, ["M.onnx"], x)).max() < 1e-5
    rtserve(tmp_path, "simulate", "-o", "W1.npz", "--windows", 40, "--seed", 1)
    rtserve(tmp_path, "simulate", "-o", "W2.npz", "--windows", 40, "--seed", 1, "--target", "externalizing")
    assert (
        "overall = 0.3 x"
        in rtserve(tmp_path, "evaluate", "--c1", "F.onnx", "W1.npz", "--c2", "E.onnx", "W2.npz").stdout
    )
    assert "F.onnx takes" in rtserve(tmp_path, "bench", "F.onnx", "--against", "M.onnx", "--rounds", 3).stdout


@pytest.fixture(scope="module")
def wrong(made, zipped):
    """What people get wrong, beside what is right."""
    import torch

    (made / "notes.pth").write_text("epoch 1, loss 0.5\n")
    torch.save({"conv.weight": torch.zeros(3, 3), "head.bias": torch.zeros(1)}, made / "other.pth")
    (made / "zip.npz").write_bytes(zipped.read_bytes())
    (made / "text.npz").write_text("0.1,0.2\n")
    with np.load(made / "W1.npz") as arrays:
        content = dict(arrays)
    X = content["X"].copy()
    X[3, 5, 7] = np.nan
    np.savez(made / "nan.npz", **content | {"X": X})
    np.savez(made / "few.npz", **content | {"X": content["X"][:, :5], "ch_names": content["ch_names"][:5]})
    np.savez(made / "microvolt.npz", **content | {"X": content["X"] * 1e6})
    (made / "file").write_text("")
    (made / "mine.onnx").write_text("mine")
    (made / "mine.zip").write_text("mine")
    return made


EXPORT = ("export", "seed1.pth", "--exporter", OWN)
WRONG = {
    "text as checkpoint": (("export", "notes.pth", "--exporter", OWN, "-o", "new.onnx"), "is not a PyTorch checkpoint"),
    "no checkpoint": (("export", "nowhere.pth", "--exporter", OWN, "-o", "new.onnx"), "nowhere.pth does not exist"),
    "other architecture": (
        ("export", "other.pth", "--exporter", OWN, "-o", "new.onnx"),
        "no CompactRT: features.0.weight is missing",
    ),
    "other exporter": ((*EXPORT[:3], "nowhere.py", "-o", "new.onnx"), "nowhere.py does not exist"),
    "setting unknown": ((*EXPORT, "--set", "n_time=100", "-o", "new.onnx"), "no setting 'n_time'"),
    "zip as windows": (("evaluate", "F.onnx", "--data", "zip.npz"), "zip.npz is not a window set but a zip of other files"),
    "text as windows": (("evaluate", "F.onnx", "--data", "text.npz"), "text.npz is not a window set"),
    "NaN windows": (("evaluate", "F.onnx", "--data", "nan.npz"), "1 windows hold NaN or Inf.*first: (window )?3"),
    "wrong channels": (("evaluate", "F.onnx", "--data", "few.npz"), "n_chans 5 against 129"),
    "microvolt called volt": (("evaluate", "F.onnx", "--data", "microvolt.npz"), "its unit is V, but"),
    "windows as graph": (("evaluate", "W1.npz", "--data", "W1.npz"), "W1.npz is not an ONNX model"),
    "text as graph": (("fuse", "M1.onnx", "notes.pth", "-o", "new.onnx"), "notes.pth is not an ONNX model"),
    "two targets": (("fuse", "M1.onnx", "M3.onnx", "-o", "new.onnx"), "response_time, .*predicts externalizing"),
    "bench of nothing": (("bench", "nowhere.onnx"), "nowhere.onnx does not exist"),
    "recipe missing": (("build", "nowhere.toml", "-o", "new.zip"), "nowhere.toml does not exist"),
    "inspect of text": (("inspect", "submission.toml"), "none of the files rtserve knows"),
    "export over a file": ((*EXPORT, "-o", "mine.onnx"), "mine.onnx exists already"),
    "fuse over a file": (("fuse", "M1.onnx", "-o", "mine.onnx"), "mine.onnx exists already"),
    "build over a file": (("build", "submission.toml", "-o", "mine.zip"), "mine.zip exists already"),
    "evaluate over a file": (("evaluate", "F.onnx", "--data", "W1.npz", "-o", "mine.zip"), "mine.zip exists already"),
    "simulate over a file": (("simulate", "-o", "W1.npz"), "W1.npz exists already"),
    "export under a file": ((*EXPORT, "-o", "file/new.onnx"), "file/new.onnx cannot be written"),
    "fuse under a file": (("fuse", "M1.onnx", "-o", "file/new.onnx"), "file/new.onnx cannot be written"),
    "build under a file": (("build", "submission.toml", "-o", "file/new.zip"), "file/new.zip cannot be written"),
    "export onto a folder": ((*EXPORT, "-o", "dist"), "dist is a folder"),
    "export onto a device": ((*EXPORT, "-o", "/dev/null", "--force"), "/dev/null is a device"),
}  # fmt: skip


def snapshot(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_file(path) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("what", WRONG)
def test_bad_input_is_one_line_and_a_hint_exit_2_nothing_written(wrong, cli, monkeypatch, what):
    argv, message = WRONG[what]
    monkeypatch.chdir(wrong)
    before = snapshot(wrong)
    code, out, err = cli(*argv)
    assert code == 2
    assert out == ""
    assert [line.partition(":")[0] for line in err.splitlines()] == ["error", "hint"], err
    assert __import__("re").search(message, err), err
    assert snapshot(wrong) == before
    assert not {path.name for path in wrong.iterdir()} & {"new.onnx", "new.zip", "new"}


def test_what_the_system_refuses_is_one_line(made, cli, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "disk/new.onnx")

    monkeypatch.setattr("rtserve.files.os.replace", full)
    monkeypatch.chdir(made)
    code, out, err = cli("fuse", "M1.onnx", "-o", "new.onnx")
    assert (code, out) == (2, "")
    assert err.splitlines()[0] == (
        "error: new.onnx could not be written: no space is left, or the file would be larger than is allowed"
    )
    assert not [path for path in made.iterdir() if path.name.startswith((".rtserve", "new"))]
