"""What the rules say of devices, tried on a real GPU: a submission of which they warn fails there, others run."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
from broken import BROKEN, FINE
from zips import write_zip

from rtserve.submission.notes import on_a_gpu
from rtserve.submission.validate import check

DRIVE = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from submission import Submission
submission = Submission(100, torch.device("cuda"))
for name in ("get_model_challenge_1", "get_model_challenge_2"):
    model = getattr(submission, name)()
    model.eval()
    with torch.inference_mode():
        for batch in (1, 1, 1, 4):
            y = model.forward(1e-5 * torch.randn(batch, 129, 200, device="cuda"))
    assert y.device.type == "cuda", y.device
print("ran")
"""
CASES = {
    **{name: FINE[name] for name in ("good", "defaults", "plain object", "torchscript", "half precision inside")},
    **{name: FINE[name] for name in ("stays on the cpu", "tensor made on the cpu", "cuda if there is one", "threads")},
    "cuda": BROKEN["cuda"][0],
}
UNSEEN = ("torchscript",)
"""A trace made while the network is built cannot be followed without numbers: that it fails there is not foreseen."""


def test_what_a_gpu_may_add_is_said(tmp_path):
    report = check(write_zip(tmp_path / "submission.zip", FINE["good"]), run=False)
    assert any("round factors to TF32's ten bits unless the code forbids it" in note for note in report.notes)


@pytest.mark.parametrize(("precision", "said"), [("float32", "TF32 off: up to 1e-5"), ("tf32", "as its recipe asks")])
def test_a_zip_of_ours_says_its_precision(precision, said):
    case = SimpleNamespace(manifest={"challenges": {"1": {"precision": "float32"}, "2": {"precision": precision}}})
    assert said in on_a_gpu(case)


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_the_device_rules_agree_with_a_gpu(name, tmp_path):
    path = write_zip(tmp_path / "submission.zip", CASES[name])
    report = check(path, kind="plain")
    found = {result.code for result in report.results if result.status in ("failed", "warned")}
    import zipfile

    with zipfile.ZipFile(path) as archive:  # noqa: TID251  (our own)
        archive.extractall(tmp_path / "there")
    done = subprocess.run(
        [sys.executable, "-c", DRIVE, str(tmp_path / "there")], capture_output=True, text=True, check=False
    )
    assert (done.returncode != 0) == ("RT321" in found or name in UNSEEN), done.stderr[-2000:]
    assert ("RT309" in found) == (name == "cuda")
