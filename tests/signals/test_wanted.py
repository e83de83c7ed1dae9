"""Targets: classes, columns, numbers and several at once, each window with the right one."""

from __future__ import annotations

import json

import mne
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from rtserve.cli.signals import prepare as command
from rtserve.errors import InputError
from rtserve.signals.splits import make_split
from rtserve.signals.wanted import natural, parse_classes, parse_wanted
from rtserve.signals.windows import load_windows

from .paradigms import BUMP_S, PARADIGMS, write_paradigm


def run(*arguments):
    """Run the command; errors come out as they are."""
    result = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=True, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.output


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Every paradigm's folder and what was shown there."""
    made = {}
    for name, paradigm in PARADIGMS.items():
        folder = tmp_path_factory.mktemp(name)
        made[name] = (folder, write_paradigm(folder, paradigm, columns=ratings, name=name.replace("_", "")))
    return made


def ratings(rows):
    """Return a column of numbers that lacks the first, one of words, and one that is mixed."""
    return {
        "rating": ["n/a", *(f"{0.5 * k:g}" for k in range(1, len(rows)))],
        "side": [("up", "down")[k % 2] for k in range(len(rows))],
        "mixed": [("3", "many")[k % 2] for k in range(len(rows))],
        "last": ["2", *("inf" for _ in rows[2:]), "7"],
    }


@pytest.mark.parametrize("name", list(PARADIGMS))
def test_each_window_is_around_its_event_and_says_its_class(sets, tmp_path, name):
    folder, said = sets[name]
    paradigm = PARADIGMS[name]
    text = run(
        folder, "--target", "class", f"--window={paradigm.window}", "--channels", "all", "-o", tmp_path / "w.npz"
    )
    windows = load_windows(tmp_path / "w.npz")
    names = [what for key in sorted(said) for _, what in said[key]]
    assert windows.target == "class"
    assert list(windows.classes) == natural(sorted(set(names)))
    assert [windows.classes[int(label)] for label in windows.y] == names
    assert windows.extra["event"].tolist() == names
    onsets = [onset for key in sorted(said) for onset, _ in said[key]]
    assert windows.extra["onset_s"] == pytest.approx(onsets, abs=1e-6)
    # The bump of a class is on its channel, 0.3 s after the event, in every window of it.
    channel = [sorted(set(names)).index(what) for what in names]
    at = round((BUMP_S - windows.t0) * windows.sfreq)
    own = windows.X[np.arange(len(names)), channel]
    near = own[:, max(0, at - 10) : at + 11]
    assert (np.abs(near.argmax(axis=1) - min(at, 10)) <= 1).all()
    # How many of each class, in which order, and what the windows share.
    for what in set(names):
        assert f"{names.count(what)} {what} ({names.count(what) / len(names):.0%})" in text
    assert ("share samples with another" in text) == (name == "p300")
    assert make_split(windows).leaks == ()


def test_the_windows_are_those_of_mne(sets, tmp_path):
    folder, said = sets["n170"]
    run(
        folder, "--target", "class", "--window=-0.1,0.5", "--channels", "all", "--band", "0,0", "--sfreq", "0",
        "-o", tmp_path / "w.npz",
    )  # fmt: skip
    windows = load_windows(tmp_path / "w.npz")
    first = windows.take(windows.subject == "sub-01")
    raw = mne.io.read_raw(sorted(folder.glob("sub-01/eeg/*.bdf"))[0], preload=True, verbose="error")
    rows = said["sub-01", 1]
    codes = {"face": 1, "house": 2}
    events = np.array([[round(onset * raw.info["sfreq"]), 0, codes[what]] for onset, what in rows])
    epochs = mne.Epochs(raw, events, codes, tmin=-0.1, tmax=0.5 - 1 / 200, baseline=None, preload=True, verbose="error")
    assert pytest.approx(epochs.get_data(verbose="error").astype("f4"), abs=1e-12) == first.X
    assert (first.y + 1).tolist() == epochs.events[:, 2].tolist()


def test_the_user_numbers_names_and_joins_classes(sets, tmp_path):
    folder, said = sets["motor_imagery"]
    common = (folder, "--window", "0,2", "--channels", "all", "--target", "class")
    text = run(*common, "--classes", "right_hand=1,left_hand=2", "-o", tmp_path / "a.npz")
    assert "numbered from 0: right_hand (1) is 0, left_hand (2) is 1" in text
    windows = load_windows(tmp_path / "a.npz")
    names = [what for key in sorted(said) for _, what in said[key]]
    assert windows.classes == ("right_hand", "left_hand")
    assert [windows.classes[int(y)] for y in windows.y] == names
    assert windows.extra["codes.class"].tolist() == ["1", "2"]
    only = run(*common, "--classes", "left_hand", "-o", tmp_path / "b.npz")
    assert f"{names.count('left_hand')} windows" in only
    assert "one class only" in only
    joined = run(*common, "--classes", "*_hand=0,face=0", "-o", tmp_path / "c.npz")
    assert "*_hand+face" in joined
    done = CliRunner().invoke(command, [*map(str, common), "-o", str(tmp_path / "d.h5"), "--json"])
    report = json.loads(done.stdout)
    assert report["targets"] == [{"name": "class", "classes": {w: names.count(w) for w in sorted(set(names))}}]
    assert load_windows(tmp_path / "d.h5").classes == ("left_hand", "right_hand")


def test_codes_of_events_are_names_too(sets, tmp_path):
    folder, said = sets["n170"]
    run(
        folder,
        "--target",
        "class",
        "--classes",
        "1,2",
        "--window",
        "0,0.5",
        "--channels",
        "all",
        "-o",
        tmp_path / "w.npz",
    )
    windows = load_windows(tmp_path / "w.npz")  # the column value: 1 face, 2 house
    assert [("face", "house")[int(y)] for y in windows.y] == [what for key in sorted(said) for _, what in said[key]]


def test_a_frequency_is_a_class_and_a_number(sets, tmp_path):
    folder, said = sets["ssvep"]
    hertz = [float(what.split()[0]) for key in sorted(said) for _, what in said[key]]
    for target in ("number", "number:{value} Hz"):
        run(
            folder,
            "--target",
            f"class,{target}",
            "--window",
            "0,2",
            "--channels",
            "all",
            "-o",
            tmp_path / "w.npz",
            "--force",
        )
        windows = load_windows(tmp_path / "w.npz")
        assert windows.classes == ("8 Hz", "15 Hz")  # as people count, not 15 before 8
        assert windows.targets["number"].values.tolist() == hertz
        assert windows.with_target("number").y.tolist() == hertz


def test_several_targets_of_events_and_people(sets, tmp_path):
    folder, said = sets["n170"]
    text = run(
        folder, "--target", "events:rating,class,age,sex,events:side", "--window", "0,0.5", "--channels", "all",
        "-o", tmp_path / "w.h5",
    )  # fmt: skip
    windows = load_windows(tmp_path / "w.h5")
    assert windows.target == "rating"
    assert "dropped: 4 no rating" in text  # the first of each recording
    n = len(windows)
    assert n == sum(len(rows) - 1 for rows in said.values())
    assert windows.y[:11] == pytest.approx(0.5 * np.arange(1, 12))
    people = {"sub-01": (20, "F"), "sub-02": (21, "M"), "sub-03": (22, "F"), "sub-04": (23, "M")}
    sex = windows.targets["sex"]
    assert sex.classes == ("F", "M")
    for i in range(n):
        age, letter = people[windows.subject[i]]
        assert windows.targets["age"].values[i] == age
        assert sex.classes[int(sex.values[i])] == letter
    side = windows.targets["side"]
    assert side.classes == ("down", "up")
    assert side.values[:4].tolist() == [0, 1, 0, 1]
    assert "rating 3 +-" in text
    assert "4 of 4 subjects have windows of one class of sex only" in text


def test_a_persons_category_alone_has_fixed_windows_or_those_of_events(sets, tmp_path):
    folder, _ = sets["motor_imagery"]
    common = (folder, "--target", "sex", "--channels", "all")
    run(*common, "--classes", "M,F", "-o", tmp_path / "a.npz")
    fixed = load_windows(tmp_path / "a.npz")
    assert (fixed.classes, fixed.t0) == (("M", "F"), 0.0)
    assert set(fixed.y[fixed.subject == "sub-01"]) == {1.0}
    text = run(*common, "--stimulus", "left_hand", "--window", "0.5,1.5", "-o", tmp_path / "b.npz")
    events = load_windows(tmp_path / "b.npz")
    assert set(events.extra["event"]) == {"left_hand"}
    assert events.t0 == 0.5
    assert len(events) == 24
    dropped = run(*common, "--classes", "F", "-o", tmp_path / "c.npz")
    assert "dropped: 2 recordings of subjects without sex" in dropped
    assert "24 windows" in text


def test_response_times_with_a_class(tmp_path):
    from .recordings import brain, trials, write_bdf, write_events

    path = tmp_path / "sub-01/eeg/sub-01_task-x_eeg.bdf"
    write_bdf(path, brain())
    write_events(path, trials()[0])
    common = (tmp_path, "--channels", "all", "--stimulus", "left_target,right_target", "--response",
              "left_buttonPress,right_buttonPress", "--trial-start", "contrastTrial_start")  # fmt: skip
    run(*common, "--target", "response_time,class", "-o", tmp_path / "a.npz")
    windows = load_windows(tmp_path / "a.npz")
    assert windows.y == pytest.approx(trials()[1], abs=1e-6)
    side = windows.targets["class"]
    assert [side.classes[int(v)] for v in side.values] == ["left_target", "right_target"] * 3
    text = run(*common, "--target", "response_time,class", "--classes", "left_target", "-o", tmp_path / "b.npz")
    assert "dropped: 3 event of no class" in text


def test_two_events_at_one_time_are_no_window_and_one_marked_twice_is_one(tmp_path):
    from .recordings import brain, write_bdf, write_events

    path = tmp_path / "sub-01/eeg/sub-01_task-x_eeg.bdf"
    write_bdf(path, brain(seconds=20))
    write_events(path, [(2.0, "a"), (2.0, "b"), (5.0, "a"), (5.0, "a"), (8.0, "b"), (11.0, "boundary")])
    text = run(tmp_path, "--target", "class", "--window", "0,1", "--channels", "all", "-o", tmp_path / "w.npz")
    assert "2 windows" in text
    assert "dropped: 2 different events at the same time" in text
    assert "dropped: 1 event marked twice" in text


def test_every_source_of_a_number_or_class_is_read_after_an_interruption(sets, tmp_path, monkeypatch):
    from rtserve.signals import prepare

    folder, _ = sets["n170"]
    common = (folder, "--target", "class,age", "--window", "0,0.5", "--channels", "all")
    real, made = prepare.cut_windows, []

    def stop_after_two(*arguments):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return real(*arguments)

    monkeypatch.setattr(prepare, "cut_windows", stop_after_two)
    with pytest.raises(BaseException):  # noqa: B017, PT011 -- click turns an interrupt into its own Abort
        run(*common, "-o", tmp_path / "w.npz")
    monkeypatch.setattr(prepare, "cut_windows", real)
    with pytest.raises(InputError, match="other settings"):
        run(*common, "--classes", "face,house", "-o", tmp_path / "w.npz", "--resume")
    assert "reused 2" in run(*common, "-o", tmp_path / "w.npz", "--resume")
    run(*common, "-o", tmp_path / "whole.npz")
    assert (tmp_path / "w.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "says", "hint"),
    [
        (["--target", "class", "--classes", "cat,dog"], "no event for class cat/dog", "face, house"),
        (["--target", "class", "--classes", "face,dog"], "no window is of class dog", "there are face"),
        (["--target", "events:rt"], "no event for column rt", "rating, side"),
        (["--target", "events:mixed"], "mixed 'many' is no number, and other values are", "--classes all"),
        (["--target", "number:{value} Hz"], "no event for a number {value} Hz", "face"),
        (["--target", "height"], "has no column height", "age"),
        (["--target", "class", "--response", "x"], "needs none", "trials"),
        (["--target", "class", "--fixed", "4,2"], "around events", "leave --fixed"),
        (["--target", "response_time,class", "--stimulus", "face"], "go together", "--response"),
        (["--target", "age", "--classes", "30=0,40=1"], "no subject's age is of the classes 30, 40", "20, 21, 22, 23"),
    ],
)
def test_what_cannot_be_had_is_named(sets, tmp_path, arguments, says, hint):
    folder, _ = sets["n170"]
    with pytest.raises(InputError, match=says) as caught:
        run(folder, *arguments, "--window", "0,0.5", "--channels", "all", "-o", tmp_path / "w.npz")
    assert hint in caught.value.hint
    assert not (tmp_path / "w.npz").exists()


def test_what_is_not_finite_is_no_value(sets, tmp_path):
    folder, said = sets["n170"]
    text = run(folder, "--target", "events:last", "--window", "0,0.5", "--channels", "all", "-o", tmp_path / "w.npz")
    assert load_windows(tmp_path / "w.npz").y.tolist() == [2.0, 7.0] * 4
    assert f"dropped: {sum(map(len, said.values())) - 8} no last" in text


def test_a_column_can_be_taken_for_classes(sets, tmp_path):
    folder, _ = sets["n170"]
    common = (folder, "--window", "0,0.5", "--channels", "all")
    run(*common, "--target", "events:mixed", "--classes", "all", "-o", tmp_path / "a.npz")
    assert load_windows(tmp_path / "a.npz").classes == ("3", "many")
    text = run(
        *common, "--target", "age", "--classes", "20=0,21=0,22=1", "--stimulus", "face", "-o", tmp_path / "b.npz"
    )
    assert load_windows(tmp_path / "b.npz").classes == ("20+21", "22")
    assert "1 recordings of subjects without age" in text


@pytest.mark.parametrize(
    ("target", "classes", "says"),
    [
        ("", None, "names nothing"),
        ("age,age", None, "names age twice"),
        ("number", "1=0,2=1", "which is a number"),
        ("age,sex", "F,M", "is of one target, not age, sex"),
        ("class", "left=1,right", "numbers 1 of 2 values"),
        ("class", "left,left", "names 'left' twice"),
        ("class", "", "numbers 0 of 0 values"),
        ("number:Hz", None, "does not say which part is the value"),
    ],
)
def test_words_that_cannot_be_meant(target, classes, says):
    with pytest.raises(InputError, match=says):
        parse_wanted(target, classes=classes)


def test_values_with_an_equals_sign_are_names_unless_numbered():
    assert parse_classes("a=b,c=d").keys == ("a=b", "c=d")
    assert parse_classes("a=b=0,c=1").keys == ("a=b", "c")
    assert parse_classes("x=7,y=-1,z=7").names == ("y", "x+z")
    assert parse_classes("left*=0,*=1").name_of("left/3") == "left*"


@given(st.lists(st.integers(0, 300), unique=True))
def test_labels_are_counted_as_people_count(numbers):
    assert natural([f"{n} Hz" for n in numbers]) == [f"{n} Hz" for n in sorted(numbers)]


@pytest.mark.parametrize(
    ("target", "name", "value"),
    [
        ("number:*{value}*", "8.57 Hz", 8.57),
        ("number:*{value}*", "1e3", 1000.0),
        ("number:*{value}*", "10-20", 10.0),
        ("number:*{value}*", "1,5 Hz", None),
        ("number:{value}", "1_000", None),
        ("number:x-{value}", "x-5", 5.0),
        ("number:run{value}_*", "run12_b", 12.0),
        ("number", "0x10", None),
        ("number", "1_000", None),
        ("number", "7,5 Hz", None),
        ("number", "1.2.3", None),
        ("number", "8Hz", 8.0),
        ("number", "angle -12.5 deg", -12.5),
        ("number", "12 of 20", None),
    ],
)
def test_a_number_is_taken_whole_or_not_at_all(target, name, value):
    (wanted,) = parse_wanted(target)
    assert wanted.number_in(name) == value


def test_names_mean_themselves_but_for_the_star():
    keys = parse_classes('[left]=0,what?=1,"y,z"=2,b*=3')
    assert [keys.name_of(name) for name in ("[left]", "l", "what?", "whatx", "y,z", "b/1")] == [
        "[left]", None, "what?", None, "y,z", "b*",
    ]  # fmt: skip


def test_events_without_a_clear_number_are_counted_or_asked_about(tmp_path):
    from .recordings import brain, write_bdf, write_events

    path = tmp_path / "sub-01/eeg/sub-01_task-x_eeg.bdf"
    write_bdf(path, brain(seconds=20))
    rows = [(2.0, "10 Hz"), (5.0, "1 of 2"), (8.0, "15 Hz"), (11.0, "pause"), (14.0, "[left]"), (15.0, "l")]
    write_events(path, rows)
    common = (tmp_path, "--window", "0,1", "--channels", "all", "-o", tmp_path / "w.npz", "--force")
    text = run(*common, "--target", "number")
    assert "2 windows" in text
    assert "dropped: 1 no single number in the event's name" in text
    run(*common, "--target", "class", "--stimulus", "[left]")
    assert load_windows(tmp_path / "w.npz").extra["onset_s"].tolist() == [14.0]
    write_events(path, [*rows, (17.0, "7,5 Hz")])
    with pytest.raises(InputError, match="whether '7,5 Hz', the name of an event, has a decimal comma"):
        run(*common, "--target", "number")
    assert "2 windows" in run(*common, "--target", "number", "--stimulus", "10 Hz,15 Hz")
