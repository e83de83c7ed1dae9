"""The zoo: what is in it, that a failure is a row, that a run goes on where it stopped, that its means are right."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rtserve.errors import InputError
from tests.conftest import HANGS_S, ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import zoo
import zoo_catalogue
import zoo_store
import zoo_table

SHAPE = zoo_catalogue.Shape(n_chans=129, n_times=200, sfreq=100.0)
OPTIONS: dict[str, Any] = {"timeout_s": 60.0, "lock": None, "rounds": 2, "fresh": False, "clock": "wall"}
FIELDS = {"model", "family", "shape", "export", "max_err", "ratio", "macs", "passes"}


def entry(model: str = "EEGNet", exporter: str = "exporters/braindecode_models.py:EEGNet") -> zoo_catalogue.Entry:
    return zoo_catalogue.Entry(model=model, family="braindecode", exporter=exporter, shape=SHAPE)


def row(model: str, ratio: float, **more: Any) -> dict[str, Any]:
    engines = {"eager": 10 * ratio, "onnxruntime": ratio, "openvino": None}
    finished = {"export": "ok", "ratio": engines, "macs": {"before": 10, "after": 5}, "n_parameters": 1000}
    return zoo_store.blank_row(entry(model)) | finished | {"fused": "ok", "us": {}, "code": "c"} | more


@pytest.mark.parametrize("text", ["129x200@100", "22x1000@250", "64x256@128"])
def test_a_shape_reads_as_it_is_written(text: str) -> None:
    assert str(zoo_catalogue.Shape.parse(text)) == text


@pytest.mark.parametrize("text", ["129x200", "0x200@100", "x200@100", "129x200@0", "129 by 200 at 100"])
def test_a_shape_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not CHANNELSxSAMPLES@HZ"):
        zoo_catalogue.Shape.parse(text)


def test_motor_imagery_has_its_electrodes_and_four_outputs() -> None:
    settings = zoo_catalogue.Shape.parse("22x1000@250").settings()
    assert len(settings["ch_names"]) == settings["n_chans"] == 22
    assert settings["n_outputs"] == 4


NEEDS = [(m, shape) for m, shapes in zoo_catalogue.NEEDS.items() for shape in shapes if m != "STEEGFormer"]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.needs("braindecode.models")
@pytest.mark.parametrize(("model", "shape"), NEEDS)
def test_a_class_refuses_its_shape_without_what_it_needs_and_takes_it_with(model: str, shape: str) -> None:
    import zoo_network

    window = zoo_catalogue.Shape.parse(shape)
    needy = zoo_catalogue.braindecode_entry(model, window, {})
    bare = dataclasses.replace(needy, settings=window.settings())
    with pytest.raises((ValueError, RuntimeError)):
        zoo_network.build(bare)
    assert zoo_network.build(needy).input_spec.n_times == window.n_times


def test_what_no_setting_makes_fit_is_listed_without_being_built(tmp_path: Path) -> None:
    job = zoo.stage_job(zoo_catalogue.braindecode_entry("REVE", SHAPE, {}), OPTIONS | {"cache": str(tmp_path)})
    assert zoo.run_stage("prepare", job, timeout_s=HANGS_S) == {"excluded": zoo_catalogue.UNFIT["REVE"]}
    assert not list(tmp_path.iterdir())


def test_every_family_of_ours_is_in_the_zoo() -> None:
    names = {e.model: e.family for e in zoo_catalogue.own_entries(SHAPE, {})}
    assert names == {model: family for model, (family, _) in zoo_catalogue.OWN_FAMILIES.items()}


def test_only_names_rows_or_says_which_is_near() -> None:
    entries = [entry("EEGNet"), entry("EEGNeX")]
    assert [e.model for e in zoo.select(entries, "EEGNeX")] == ["EEGNeX"]
    with pytest.raises(InputError) as caught:
        zoo.select(entries, "EEGNex")
    assert "did you mean EEGNe" in caught.value.hint


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import os; os._exit(7)", "the process died (exit 7)"),
        ("import time; time.sleep(60)", "longer than 1 s"),
    ],
)
def test_a_stage_that_dies_or_hangs_is_a_row_with_its_reason(tmp_path: Path, body: str, reason: str) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text(f"def exporter(shapes, settings):\n    {body}\n")
    options = OPTIONS | {"timeout_s": HANGS_S if "exit" in reason else 1.0, "cache": str(tmp_path)}
    made = zoo.make_row(entry("Bad", str(bad)), options)
    assert made.keys() >= FIELDS
    assert reason in made["export"]
    assert made["ratio"] is None


def test_a_network_that_cannot_be_built_is_listed_apart(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def exporter(shapes, settings):\n    raise ValueError('needs 22 channels')\n")
    made = zoo.make_row(entry("Bad", str(bad)), OPTIONS | {"cache": str(tmp_path)})
    assert made["excluded"] == "ValueError: needs 22 channels"


def test_a_run_goes_on_where_it_stopped_and_only_replaces_what_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def make(e: zoo_catalogue.Entry, options: dict[str, Any]) -> dict[str, Any]:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(e.model)
        return row(e.model, 2.0)

    entries = [entry(name) for name in ("A", "B", "C")]
    monkeypatch.setattr(zoo, "make_row", make)
    with pytest.raises(KeyboardInterrupt):
        zoo.run(entries, zoo_store.Store(tmp_path), OPTIONS, again=False)
    made.append("interrupted")
    zoo.run(entries, zoo_store.Store(tmp_path), OPTIONS, again=False)
    assert made == ["A", "B", "interrupted", "C"]
    zoo.run([entry("B")], zoo_store.Store(tmp_path), OPTIONS, again=True)
    assert made[-1] == "B"
    rows = json.loads((tmp_path / "zoo.json").read_text())["rows"]
    assert [r["model"] for r in rows] == ["A", "B", "C"]


def test_two_runs_at_once_keep_each_others_rows(tmp_path: Path) -> None:
    one, two = zoo_store.Store(tmp_path), zoo_store.Store(tmp_path)
    one.put(entry("A"), row("A", 2.0))
    two.put(entry("B"), row("B", 3.0))
    assert set(zoo_store.Store(tmp_path).rows) == {f"A {SHAPE}", f"B {SHAPE}"}


def test_rows_of_other_code_are_made_anew(tmp_path: Path) -> None:
    store = zoo_store.Store(tmp_path)
    store.put(entry("A"), row("A", 2.0, code="old"))
    assert not store.current(entry("A"), "new")
    assert store.current(entry("A"), "old")


def test_the_means_are_right_and_stand_with_and_without_fourier_models() -> None:
    rows = [row("EEGNet", 2.0), row("Deep4Net", 8.0), row("FBCNet", 256.0), row("EEGPT", 1.0, n_parameters=25_000_000)]
    lines = {line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:]] for line in zoo_table.means(rows)}
    everything = lines["all that export, up to 20 M parameters"]
    assert everything[0] == "3"
    assert everything[3] == f"{math.exp((math.log(2) + math.log(8) + math.log(256)) / 3):.2f}"
    assert everything[4] == "8.00"
    assert lines["without the Fourier models"][3] == "4.00"
    assert lines["every size"][0] == "4"


def test_the_page_tells_every_failure() -> None:
    failed = zoo_store.blank_row(entry("Broken")) | {"export": "ScatterND is rejected", "code": "c"}
    text = zoo_table.table(
        [row("EEGNet", 2.0), failed, row("Odd", 0.5, fused="no mirror")],
        [{"model": "Huge", "shape": str(SHAPE), "reason": "178.1 M parameters", "code": "c"}],
        {"cpu": "a processor", "versions": {"torch": "2"}},
    )
    assert "2 of 3 networks export and agree; 1 fuse 3 x 3 in parity" in text
    assert "1 of 2 run under 0.98" in text
    for reason in ("ScatterND is rejected", "no mirror", "178.1 M parameters"):
        assert reason in text


def test_native_code_is_held_against_the_better_engine_and_what_is_slower_is_named() -> None:
    fast = {"beside": "openvino_ours", "ratio": [4.0, 3.9, 4.1]}
    slow = {"beside": "ours", "ratio": [0.25, 0.2, 0.3]}
    refused = row("EEGPT", 2.0, missing={"native": "native code has no Loop"})
    rows = [row("EEGNet", 2.0, native=fast), row("FBCNet", 2.0, native=slow), refused]
    text = zoo_table.table(rows, [], {"cpu": "a processor", "versions": {"torch": "2"}})
    assert "compiles for 2 of 3 networks" in text
    assert "takes 1.00 over 2 (all), 4.00 over 1 (CNNs and hybrids) of its time" in text
    assert "interval included: FBCNet 0.25." in text
    assert "native: native code has no Loop" in text


@pytest.mark.slow
@pytest.mark.needs("braindecode.models")
@pytest.mark.needs("openvino")
def test_one_row_for_real(tmp_path: Path) -> None:
    arguments = ["--only", "CompactRT", "--shape", "16x100@100", "--rounds", "2"]
    arguments += ["--cache", str(tmp_path / "cache"), "-o", str(tmp_path)]
    done = CliRunner().invoke(zoo.main, arguments)
    assert done.exit_code == 0, done.output
    (made,) = json.loads((tmp_path / "zoo.json").read_text())["rows"]
    assert made["export"] == made["fused"] == "ok"
    assert all(0 <= made["max_err"][name] < 1e-4 for name in ("onnxruntime", "torch_plan", "torchscript"))
    assert all(made["ratio"][name] > 0 for name in ("eager", "onnxruntime", "openvino"))
    assert made["macs"]["before"] >= made["macs"]["after"] > 0
    if "native" in made["missing"]:  # no compiler here
        assert "compiler" in made["missing"]["native"]
    else:
        assert made["native"]["beside"] in ("ours", "openvino_ours")
        assert all(ratio > 0 for ratio in made["native"]["ratio"])
    assert "CompactRT" in (tmp_path / "zoo.md").read_text()
    refused = CliRunner().invoke(zoo.main, ["--only", "NoSuchNet", "-o", str(tmp_path)])
    assert refused.exit_code == 2
    assert "no network NoSuchNet" in refused.output
