"""Mutated zips never crash the checker: every run ends in a report, exit 0 or 1."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
from zips import GOOD, good, weights, write_zip

from rtserve.submission import report as shapes
from rtserve.submission.validate import check


@cache
def original() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_zip(Path(folder) / "x.zip", good()).read_bytes()


def judged(data: bytes, **options):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.zip"
        path.write_bytes(data)
        report = check(path, run=False, **options)
    assert report.exit_code in (0, 1)
    assert not [r for r in report.results if "the rule itself failed" in r.reason], shapes.tick_list(report)
    shapes.to_dict(report)
    shapes.sarif(report)
    shapes.markdown(report)
    return report


changes = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=20)


@settings(max_examples=60)
@given(changes)
def test_changed_bytes(edits):
    data = bytearray(original())
    for where, value in edits:
        data[int(where * len(data))] = value
    judged(bytes(data))


@settings(max_examples=40)
@given(st.floats(0, 1), st.floats(0, 1))
def test_cut_and_repeated_bytes(start, stop):
    data = original()
    low, high = sorted((int(start * len(data)), int(stop * len(data))))
    judged(data[:low] + data[high:])
    judged(data[:high] + data[low:])


@settings(max_examples=60)
@given(st.lists(st.integers(0, len(GOOD.splitlines()) - 1), min_size=1, max_size=6), st.text(max_size=20))
def test_changed_scripts(lines, text):
    script = GOOD.splitlines()
    for line in lines:
        script[line] = text if line % 2 else script[line][::-1]
    with tempfile.TemporaryDirectory() as folder:
        path = write_zip(
            Path(folder) / "x.zip", good(**{"submission.py": "\n".join(script).encode("utf-8", "replace")})
        )
        judged(path.read_bytes())


@settings(max_examples=40)
@given(changes)
def test_changed_weights(edits):
    data = bytearray(weights()["weights_1.pt"])
    for where, value in edits:
        data[int(where * len(data))] = value
    with tempfile.TemporaryDirectory() as folder:
        judged(write_zip(Path(folder) / "x.zip", good(**{"weights_1.pt": bytes(data)})).read_bytes())


@settings(max_examples=60)
@given(st.binary(max_size=400))
@example(b"\x80\x04\x95" + b"\xff" * 8 + b".")
@example(b"cos\nsystem\n(S'x'\ntR.")
def test_any_pickle(data):
    with tempfile.TemporaryDirectory() as folder:
        judged(write_zip(Path(folder) / "x.zip", good(**{"weights_1.pt": data, "x.pkl": data})).read_bytes())


@settings(max_examples=40)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda c: (
            st.lists(c)
            | st.dictionaries(st.sampled_from(["files", "challenges", "1", "2", "graph", "graph_sha256", "schema"]), c)
        ),
        max_leaves=12,
    )
)
def test_any_manifest(value):
    import json

    manifest = value if isinstance(value, dict) else {"files": value}
    text = json.dumps(manifest | {"schema": "rtserve.manifest/1"})
    with tempfile.TemporaryDirectory() as folder:
        judged(write_zip(Path(folder) / "x.zip", good(**{"manifest.json": text})).read_bytes())


def test_mutated_zips_run_to_a_report(quick_check, tmp_path):
    script = GOOD.splitlines()
    for line in range(3, len(script), 4):
        text = "\n".join(script[:line] + script[line + 1 :])
        report = quick_check(good(**{"submission.py": text}))
        assert report.exit_code in (0, 1)
        assert not [r for r in report.results if "the rule itself failed" in r.reason], shapes.tick_list(report)
