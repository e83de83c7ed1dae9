"""The contest's own files: the default's windows are those that braindecode cuts by the start kit's rule, bit for bit."""

from __future__ import annotations

import warnings

import mne
import numpy as np
import pytest

from rtserve.signals.hbn import LEFT_OUT_BY_THE_KIT
from rtserve.signals.windows import load_windows

from .recordings import brain, write_bdf
from .test_prepare import run

NET = (*(f"E{k}" for k in range(1, 129)), "Cz")


def rows(seed, *, end=True):
    """Trials at times that are no samples, some without stimulus, some without answer; with or without an end."""
    rng = np.random.default_rng(seed)
    out, at = [], 1.5
    while at < 48:
        shown = at + float(rng.choice([2.8, 4.4])) + 0.002 * int(rng.integers(5))
        out.append((at, "contrastTrial_start"))
        out += [(shown, str(rng.choice(["left_target", "right_target"])))] * bool(rng.random() < 0.9)
        out += [(shown + rng.uniform(0.2, 2.3), "left_buttonPress")] * bool(rng.random() < 0.9)
        at = shown + 2.6
    return out + [(at, "end_experiment")] * end


def by_the_kit(table):
    """Return stimulus and response time of the trials that the kit keeps, written anew from its description."""
    starts = [at for at, name in table if name == "contrastTrial_start"]
    ends = [*starts[1:], *(at for at, name in table if name == "end_experiment")]
    kept = []
    for start, end in zip(starts, ends, strict=False):  # without an end, the last trial has none and is left out
        shown = [at for at, name in table if start <= at < end and name.endswith("_target")]
        pressed = [at for at, name in table if shown and shown[0] <= at < end and name.endswith("_buttonPress")]
        if pressed:
            kept.append((shown[0], pressed[0] - shown[0]))
    return kept


def cut_by_braindecode(path, kept):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        braindecode = pytest.importorskip("braindecode.preprocessing")
        from braindecode.datasets import BaseConcatDataset
        from braindecode.datasets.base import RawDataset

        raw = mne.io.read_raw_bdf(path, preload=True, verbose="error")
        raw.set_annotations(
            mne.Annotations([at for at, _ in kept], 0.0, "stimulus_anchor", orig_time=raw.info["meas_date"])
        )
        windows = braindecode.create_windows_from_events(
            BaseConcatDataset([RawDataset(raw)]), mapping={"stimulus_anchor": 0}, trial_start_offset_samples=50,
            trial_stop_offset_samples=250, window_size_samples=200, window_stride_samples=100, preload=True,
        )  # fmt: skip
        return [windows[k][0] for k in range(len(windows))]


@pytest.fixture(scope="module")
def contest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contest")
    expected, times = [], []
    subjects = ["NDARAA", "NDARBB", sorted(LEFT_OUT_BY_THE_KIT)[0]]
    for seed, subject in enumerate(subjects):
        name = f"sub-{subject}_task-contrastChangeDetection_run-1"
        path = folder / f"sub-{subject}" / "eeg" / f"{name}_eeg.bdf"
        write_bdf(path, brain(seconds=60, rate=100, n=129, seed=seed), rate=100, names=NET)
        table = rows(seed, end=seed != 1)
        lines = "".join(f"{at!r}\tn/a\t{text}\t9\tn/a\n" for at, text in table)
        path.with_name(f"{name}_events.tsv").write_text(f"onset\tduration\tvalue\tevent_code\tfeedback\n{lines}")
        if subject not in LEFT_OUT_BY_THE_KIT:
            kept = by_the_kit(table)
            expected += cut_by_braindecode(path, kept)
            times += [seconds for _, seconds in kept]
    return folder, np.array(expected), np.array(times, "f4")


def test_the_default_gives_the_start_kits_windows(contest, tmp_path):
    folder, expected, times = contest
    text = run(folder, "-o", tmp_path / "w.npz")
    windows = load_windows(tmp_path / "w.npz")
    assert len(windows) > 8
    assert np.array_equal(windows.X[:], expected)
    assert np.array_equal(windows.y, times)
    assert "recognised as the contest's own file (129 channels" in text
    assert "1 recordings of children that the start kit leaves out" in text
    assert "1 last trial without end_experiment" in text


def test_what_the_kit_leaves_out_can_be_kept(contest, tmp_path):
    folder, expected, _ = contest
    text = run(folder, "--left-out", "keep", "--trial-end", "none", "-o", tmp_path / "w.npz")
    windows = load_windows(tmp_path / "w.npz")
    assert len(set(windows.subject)) == 3
    assert len(windows) > len(expected) + 1
    assert "left out" not in text
    assert "last trial" not in text


def test_a_band_that_is_asked_for_is_applied(contest, tmp_path):
    folder, expected, _ = contest
    run(folder, "--band", "0.5,50", "-o", tmp_path / "w.npz")
    windows = load_windows(tmp_path / "w.npz")
    assert windows.X.shape == expected.shape
    assert np.sqrt(np.mean((windows.X[:] - expected) ** 2)) > 0.05 * expected.std()


def test_the_net_at_another_rate_is_no_contest_file(tmp_path):
    path = tmp_path / "sub-A" / "eeg" / "sub-A_task-x_eeg.bdf"
    write_bdf(path, brain(seconds=20, rate=250, n=129), rate=250, names=NET)
    table = "".join(f"{at}\tn/a\t{name}\n" for at, name in rows(0) if at < 18)
    path.with_name("sub-A_task-x_events.tsv").write_text(f"onset\tduration\tvalue\n{table}")
    assert "recognised" not in run(tmp_path, "--trial-end", "none", "-o", tmp_path / "w.npz")


def test_a_drifting_recording_of_the_net_is_filtered_unless_it_is_cut_as_the_contest(tmp_path):
    data = brain(seconds=30, rate=100, n=129)
    write_bdf(tmp_path / "sub-A_task-x_eeg.bdf", data + 300 * np.linspace(-1, 1, 3000), rate=100, names=NET)
    table = "".join(f"{at}\tn/a\t{name}\n" for at, name in rows(0) if at < 28)
    (tmp_path / "sub-A_task-x_events.tsv").write_text(f"onset\tduration\tvalue\n{table}")
    path = tmp_path / "sub-A_task-x_eeg.bdf"
    named = ["--stimulus", "left_target,right_target", "--response", "left_buttonPress"]
    assert "recognised" not in run(path, *named, "-o", tmp_path / "a.npz")
    assert "though it drifts" in run(path, "--trial-end", "none", "-o", tmp_path / "b.npz")
    drifts, filtered = load_windows(tmp_path / "b.npz").X[:], load_windows(tmp_path / "a.npz").X[:]
    assert np.abs(drifts.mean(axis=2)).max() > 5 * np.abs(filtered.mean(axis=2)).max()
