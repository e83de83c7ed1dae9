"""A joblib is loaded in the sandbox alone: what its code does there reaches nobody, and what comes back is a graph."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner

from rtserve.cli.main import cli
from rtserve.errors import EnvironmentMissingError, ExportError, InputError
from rtserve.graphs import export_child
from rtserve.graphs.graph import Graph
from rtserve.graphs.runners import OnnxruntimeRunner, PlanRunner
from rtserve.submission import isolated_export, sandbox
from tests.conftest import ROOT
from tests.versions import release

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pyriemann")
EXPORTER = str(ROOT / "exporters" / "sklearn_pipeline.py")
OLD = release(onnxruntime.__version__) < (1, 32)


class Marks:
    """Code in a pickle: it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def pipeline():
    from pyriemann.estimation import Covariances
    from pyriemann.tangentspace import TangentSpace
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline

    g = np.random.default_rng(0)
    y = np.arange(30) % 2
    x = (2 * np.eye(4) + 0.1 * g.standard_normal((2, 4, 4)))[y] @ g.standard_normal((30, 4, 50))
    labels = np.array(["rest", "move"])[y]
    return make_pipeline(Covariances("oas"), TangentSpace(), LinearDiscriminantAnalysis()).fit(x, labels), x


@pytest.mark.needs("pyriemann")
@pytest.mark.skipif(sandbox.best_kind() == "plain", reason="no sandbox on this machine")
@pytest.mark.skipif(OLD, reason="onnxruntime before 1.32 has no kernel for this pipeline's doubles")
def test_a_joblib_is_loaded_where_its_code_reaches_nothing(tmp_path: Path) -> None:
    import joblib

    model, x = pipeline()
    mark, file, made = tmp_path / "mark", tmp_path / "m.joblib", tmp_path / "m.onnx"
    joblib.dump({"model": model, "more": Marks(mark)}, file)
    joblib.load(file)
    assert mark.exists(), "the code in the file does what it is for"
    mark.unlink()
    command = ["export", str(file), "--exporter", EXPORTER, "-o", str(made), "--set", "key=model"]
    command += ["--set", "n_chans=4", "--set", "n_times=50", "--unit", "V", "--sfreq", "100"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    assert "runs the code in it: done in a sandbox" in result.output
    assert not mark.exists()
    graph = Graph.load(made)
    assert (graph.output_spec.classes, graph.output_spec.form) == (("move", "rest"), "probabilities")
    own = model.predict_proba(x)
    for runner in (OnnxruntimeRunner(graph), PlanRunner(graph)):
        np.testing.assert_allclose(runner.infer(x.astype("f4")), own, atol=1e-5)
    np.testing.assert_allclose(PlanRunner(graph, double=True).infer(x), own, rtol=1e-9, atol=1e-12)


def test_without_a_sandbox_it_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = {"checkpoint": str(tmp_path / "m.bin"), "exporter": EXPORTER, "exporter_name": EXPORTER, "settings": {}}
    with pytest.raises(InputError, match="in a sandbox only"):
        export_child.build(job | {"isolated": False})
    monkeypatch.setattr(sandbox, "best_kind", lambda: "plain")
    (tmp_path / "job.json").write_text('{"checkpoint": "m.joblib"}')
    with pytest.raises(EnvironmentMissingError, match=r"m\.joblib runs the code in it"):
        isolated_export.isolated_child(tmp_path, 1.0)


def test_only_the_files_of_an_export_come_back(tmp_path: Path) -> None:
    import io
    import tarfile

    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w|") as made:
        for name in ("../out", "result.json", "other"):
            member = tarfile.TarInfo(name)
            member.size = 2
            made.addfile(member, io.BytesIO(b"{}"))
        link = tarfile.TarInfo("raw.onnx")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        made.addfile(link)
    folder = tmp_path / "inner"
    folder.mkdir()
    isolated_export._unpack(data.getvalue(), folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["inner", "result.json"]
    with pytest.raises(ExportError, match="no archive"):
        isolated_export._unpack(b"x" * 2000, folder)
