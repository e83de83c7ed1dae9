"""Profiles: data with a source for every clause; a wrong one is refused by name."""

from __future__ import annotations

from importlib import resources

import pytest

from rtserve.errors import InputError, ProfileError
from rtserve.spec import InputSpec
from rtserve.submission.profile import load_profile, parse_profile, profile_names
from rtserve.submission.report_profile import profile_text


@pytest.mark.parametrize("name", profile_names())
def test_every_clause_has_a_source_and_a_confidence(name):
    profile = load_profile(name)
    assert profile.clauses
    for clause in profile.clauses:
        assert clause.source
        assert clause.confidence in ("certain", "high", "medium", "low", "unknown")
    for item in profile.contradictions:
        assert len(item.readings) >= 2
        assert item.handling


@pytest.mark.parametrize("name", profile_names())
def test_show_prints_clauses_sources_confidence_and_contradictions(name):
    profile = load_profile(name)
    text = profile_text(profile)
    for clause in profile.clauses:
        assert clause.text in text
        assert clause.source in text
        assert f"[{clause.confidence}]" in text
    for item in profile.contradictions:
        assert all(reading in text for reading in item.readings)


def test_the_contest_of_2025_is_as_the_contract_says():
    profile = load_profile("eeg2025")
    assert (profile.signal.n_chans, profile.signal.n_times, profile.signal.sfreq) == (129, 200, 100.0)
    assert [c.call for c in profile.challenges] == ["get_model_challenge_1", "get_model_challenge_2"]
    assert [c.weight for c in profile.challenges] == [0.3, 0.7]
    assert profile.primary.packages["torch"] == "2.8.0"
    assert "onnxruntime" in profile.absent
    assert not set(profile.absent) & set(profile.modules)


def test_an_unknown_profile_names_the_nearest():
    with pytest.raises(InputError, match="eeg2052") as caught:
        load_profile("eeg2052")
    assert "eeg2025" in caught.value.hint


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(ProfileError, match="tittle") as caught:
        parse_profile('name = "x"\ntittle = "y"', where="mine.toml")
    assert "title" in caught.value.hint


def test_missing_keys_and_wrong_types_are_named():
    with pytest.raises(ProfileError, match=r"lacks .*title"):
        parse_profile('name = "x"', where="mine.toml")
    whole = (resources.files("rtserve.submission") / "profiles" / "eeg2025.toml").read_text("utf-8")
    with pytest.raises(ProfileError, match="name is 3"):
        parse_profile(whole.replace('name = "eeg2025"', "name = 3"), where="mine.toml")
    with pytest.raises(ProfileError, match=r"signal: n_chans is 'many'"):
        parse_profile(whole.replace("n_chans = 129", 'n_chans = "many"'), where="mine.toml")
    with pytest.raises(ProfileError, match="not TOML"):
        parse_profile("name = ", where="mine.toml")


def test_a_challenge_is_found_by_key_or_refused():
    profile = load_profile("eeg2025")
    assert profile.challenge("2").target == "externalizing"
    with pytest.raises(ProfileError, match="'3'"):
        profile.challenge("3")


def test_a_size_is_named_only_where_the_contest_leaves_it_open():
    other = InputSpec(n_chans=5, n_times=50, sfreq=250.0)
    opened = load_profile("eeg2026/sleep").resized(other).signal_of("sleep")
    assert (opened.n_chans, opened.n_times, opened.sfreq) == (5, 50, 250.0)
    assert opened.unit == load_profile("eeg2026/sleep").signal_of("sleep").unit
    with pytest.raises(InputError, match="129 channels x 200 samples"):
        load_profile("eeg2025").resized(other)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("eeg2026/sleep", (4, 640, 128.0)),
        ("eeg2026/sleep:warm-up", (2, 600, 120.0)),
        ("eeg2026/bci:sealed", (41, 480, 120.0)),
        ("eeg2026/bci:warm-up", (27, 480, 120.0)),
        ("eeg2026/pose:warm-up", (16, 10000, 2000.0)),
    ],
)
def test_a_track_and_a_phase_have_their_own_windows(name, size):
    profile = load_profile(name)
    assert profile.name == name
    (challenge,) = profile.challenges
    signal = profile.signal_of(challenge.key)
    assert (signal.n_chans, signal.n_times, signal.sfreq) == size
    assert str(signal) in profile_text(profile)


def test_a_phase_is_as_the_one_named_before_it_but_for_what_it_changes():
    first, warm_up, sealed = (load_profile(f"eeg2026/bci{phase}") for phase in (":first-warm-up", ":warm-up", ""))
    classes = [profile.challenge("bci").meta["n_classes"] for profile in (first, warm_up, sealed)]
    assert classes == [2, 3, 3]
    assert first.challenge("bci").possible == (0, 1)
    assert first.signal_of("bci") == warm_up.signal_of("bci") != sealed.signal_of("bci")
    image = load_profile("eeg2026/image:first-warm-up")
    assert image.challenge("image").signal.n_chans == 63


def test_a_phase_says_when_and_how_often_it_takes_uploads():
    periods = {period.phase: period for period in load_profile("eeg2026/sleep").periods}
    assert "1 uploads a day, 10 in all" in str(periods["sealed"])
    assert periods["warm-up"].daily == 5
    assert load_profile("eeg2025").periods == ()
    text = profile_text(load_profile("eeg2026"))
    assert "sealed: 2026-10-28 to 2026-11-21" in text
    source = (resources.files("rtserve.submission") / "profiles" / "eeg2026.toml").read_text("utf-8")
    for wrong in (('closes = "2026-11-21"', 'closes = "2026-10-21"'), ('phase = "sealed"', 'phase = "seal"')):
        with pytest.raises(ProfileError, match=r"the phase 'seal"):
            parse_profile(source.replace(*wrong, 1), where="mine.toml")


def test_versions_that_no_source_states_are_no_pins():
    profile = load_profile("eeg2026")
    assert [env.packages["scikit-learn"] for env in profile.environments] == ["1.9.1", "1.8.0", "1.7.2"]
    assert all(env.assumed and env.pins == {} for env in profile.environments)
    assert "no source states the versions" in profile_text(profile)
    assert load_profile("eeg2025").primary.pins["numpy"] == "2.2.6"


def test_channels_are_named_as_electrodes_where_they_are_such():
    assert load_profile("eeg2026").names_of("sleep") == ("Fp1", "Fp2", "F7", "F3")
    assert load_profile("eeg2026").names_of("pose")[:2] == ("ch1", "ch2")
    assert load_profile("eeg2025").names_of("1")[-1] == "Cz"
    names = load_profile("eeg2026").electrodes
    assert len(set(names)) == len(names) >= load_profile("eeg2026/image:warm-up").signal_of("image").n_chans


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("eeg2026/slep", "no challenge 'slep'", "did you mean sleep?"),
        ("eeg2026/sleep:warmup", "no phase 'warmup'", "did you mean warm-up?"),
        ("eeg2025:sealed", "no phase 'sealed'", "none"),
        ("eeg2027/sleep", "no profile 'eeg2027/sleep'", "eeg2026"),
    ],
)
def test_a_track_or_phase_that_is_none_is_refused(name, said, hint):
    with pytest.raises(InputError, match=said) as caught:
        load_profile(name)
    assert hint in caught.value.hint


def test_a_profile_of_ones_own_has_tracks_as_well(tmp_path):
    source = resources.files("rtserve.submission") / "profiles" / "eeg2026.toml"
    path = tmp_path / "mine.toml"
    path.write_text(source.read_text("utf-8").replace('name = "eeg2026"', 'name = "mine"', 1), "utf-8")
    assert load_profile(f"{path}/bci:warm-up").signal_of("bci").n_chans == 27
    path.write_text(path.read_text("utf-8").replace('coupling = "fail"', 'coupling = "no"', 1), "utf-8")
    with pytest.raises(ProfileError, match="coupling 'no'"):
        load_profile(path)
    path.write_text(source.read_text("utf-8").replace('impossible = "warn"', 'impossible = "no"', 1), "utf-8")
    with pytest.raises(ProfileError, match="impossible 'no'"):
        load_profile(path)
