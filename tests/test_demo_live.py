"""``rtserve demo --live``: the demo's graph on made-up EEG, drawn as it answers."""

import dataclasses

import numpy as np
import pytest

from rtserve.demo.live import BLOCKS, PLAIN, spark, watch_live
from rtserve.demo.settings import VIEWED, Folder
from tests.streaming.making import SPEC, graph_of, shallow


@pytest.fixture
def demo(tmp_path):
    folder = Folder(root=tmp_path / "demo")
    folder.fused(VIEWED).parent.mkdir(parents=True)
    graph_of(shallow, dataclasses.replace(SPEC, unit="uV", ch_names=("F3", "Cz", "Pz"))).save(folder.fused(VIEWED))
    return folder


def test_answers_are_drawn(demo):
    drawn = []
    report = watch_live(demo.root, show=drawn.append, width=40, seconds=20, paced=False)
    assert report["answers"] == report["steps"] - 5 == 245
    assert 190 <= len(drawn) <= 198
    about, wave, answer, end = drawn[-1]
    assert end.strip() == "20.00 s"
    assert "an answer every 8 samples" in about
    assert wave.strip().startswith("Cz")
    assert len(set(wave) & set(BLOCKS)) > 3
    assert set(answer.removeprefix("answer ")[:40]) <= set(BLOCKS)
    assert demo.fused(f"{VIEWED}_step8").exists()


@pytest.mark.parametrize("seconds", [5, 4.6])
def test_a_picture_is_shown_once_in_the_time_that_is_named_and_at_the_end(demo, seconds):
    drawn = []
    watch_live(demo.root, show=drawn.append, seconds=seconds, paced=False, every_s=1.0)
    ends = [float(lines[3].removesuffix(" s")) for lines in drawn]
    answers = [8 * k / 100 for k in range(6, int(seconds * 100 / 8) + 1)]
    assert ends[:5] == pytest.approx([min(end for end in answers if end >= second) for second in range(5)], abs=0.011)
    assert ends[-1] == pytest.approx(answers[-1], abs=0.011)
    assert len(ends) == 5 + (ends[4] < ends[-1])


def test_the_command_says_what_it_did(cli, demo):
    code, out, err = cli("demo", "--live", "-o", demo.root, "--for", "1")
    assert code == 0, err
    assert "7 answers; a step p50" in out
    assert sum(line.startswith("answer ") for line in out.splitlines()) == 2  # the first of a second, and the last
    code, _, err = cli("demo", "--live", "-o", demo.root.parent / "nothing")
    assert code == 2
    assert "holds no demo yet" in err
    code, _, err = cli("demo", "--for", "1")
    assert code == 2


@pytest.mark.parametrize("option", [("--quick",), ("--jobs", "1"), ("--force",)])
def test_what_the_live_demo_does_not_use_is_refused(cli, demo, option):
    code, _, err = cli("demo", "--live", "-o", demo.root, "--for", "1", *option)
    assert code == 2
    assert f"{option[0]} is not of --live" in err


def test_a_trace_has_a_sign_for_every_value():
    assert spark(np.array([0.0, 1.0, np.nan, 0.5]), "_-#") == "_# -"
    assert spark(np.array([-9.0, 9.0]), PLAIN, low=-1, high=1) == PLAIN[0] + PLAIN[-1]
    assert spark(np.full(3, np.nan), BLOCKS) == "   "
    assert spark(np.full(3, 2.0), BLOCKS) == BLOCKS[0] * 3
