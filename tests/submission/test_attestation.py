"""A bundle says what a zip scores and is believed in nothing: each part that is changed is found, with both values."""

import copy
import hashlib
import json
import shutil

import numpy as np
import pytest

from rtserve.errors import BundleError, EnvironmentMissingError, InputError, NotComparableError
from rtserve.signals.windows import WindowSet, save_windows
from rtserve.submission import sandbox
from rtserve.submission.archive import read_zip, zip_bytes
from rtserve.submission.attestation import attest as attesting
from rtserve.submission.attestation import signing
from rtserve.submission.attestation.attest import STATEMENT, attest
from rtserve.submission.attestation.replay import TOLERANCE, replay
from rtserve.submission.attestation.statement import PREDICATE_TYPE, Statement
from rtserve.submission.bundle import build
from rtserve.submission.manifest import seal
from tests.submission.small import write_recipe

OTHER = "0" * 64


def windows(seed, target="response_time"):
    rng = np.random.default_rng(seed)
    X = (1e-5 * rng.standard_normal((24, 129, 200))).astype("f4")
    return WindowSet(X=X, y=rng.standard_normal(24).astype("f4"), sfreq=100.0, unit="V", target=target)


@pytest.fixture(scope="module")
def whole(_server, tmp_path_factory):
    """A folder with a zip, two window sets and the bundle about them."""
    import quick

    folder = tmp_path_factory.mktemp("attested")
    build(write_recipe(folder / "recipe"), output=folder / "s.zip")
    (folder / "data").mkdir()
    save_windows(folder / "data" / "w.npz", windows(1))
    save_windows(folder / "data" / "other.npz", windows(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "run", quick.forked_run)
        patch.setattr(sandbox, "best_kind", lambda: "plain")
        attest(folder / "s.zip", data=[folder / "data" / "w.npz"], output=folder / "s.bundle")
    return folder


@pytest.fixture
def here(whole, tmp_path):
    """A copy that may be changed."""
    return shutil.copytree(whole, tmp_path / "copy")


def document(folder):
    return json.loads(read_zip(folder / "s.bundle")[STATEMENT])


def put(folder, statement=None, **files):
    """Write the bundle again with another statement or other files."""
    found = read_zip(folder / "s.bundle")
    if statement is not None:
        found[STATEMENT] = json.dumps(statement).encode()
    found |= files
    (folder / "s.bundle").write_bytes(zip_bytes(found))


def changed(value, path, new):
    """Return a copy with one leaf replaced, or taken away where `new` is None."""
    value = copy.deepcopy(value)
    *way, last = path
    inner = value
    for key in way:
        inner = inner[key]
    if new is None:
        del inner[last]
    else:
        inner[last] = new
    return value


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_statement_is_one_of_in_toto_about_the_zip_the_graphs_and_the_data(whole):
    found = document(whole)
    assert (found["_type"], found["predicateType"]) == ("https://in-toto.io/Statement/v1", PREDICATE_TYPE)
    files = read_zip(whole / "s.zip")
    digests = {one["name"]: one["digest"]["sha256"] for one in found["subject"]}
    graphs = {name: hashlib.sha256(files[name]).hexdigest() for name in ("challenge_1.onnx", "challenge_2.onnx")}
    assert digests == {"s.zip": sha(whole / "s.zip")} | graphs
    (scoring,) = found["predicate"]["scores"]
    assert scoring["data"] == {"name": "data/w.npz", "digest": {"sha256": sha(whole / "data" / "w.npz")}}
    assert scoring["windowsSha256"] == windows(1).digest
    assert [one["metric"] for one in scoring["measured"]] == ["nrmse", "rmse", "mse"]
    assert f"|n:24|data:{windows(1).digest[:12]}|split:all|" in scoring["measured"][0]["signature"]
    manifest = json.loads(files["manifest.json"])
    assert found["predicate"]["zip"]["manifestSeal"] == manifest["seal"]
    assert Statement.from_bytes(read_zip(whole / "s.bundle")[STATEMENT], name="s").to_dict() == found
    assert read_zip(whole / "s.bundle")["s.zip"] == (whole / "s.zip").read_bytes()


def test_one_command_recomputes_the_score_that_the_graph_has(here, quick_drives, cli):
    from rtserve.graphs.graph import Graph
    from rtserve.measure.evaluate import evaluate

    code, out, err = cli("replay", here / "s.bundle", "--json")
    assert (code, "reproduced" in err) == (0, True)
    told = json.loads(out)
    assert told["passed"]
    graph = Graph.from_bytes(read_zip(here / "s.zip")["challenge_1.onnx"])
    plain = evaluate(graph, windows(1), resamples=0)
    for score in told["scores"]:
        metric = score["signature"].partition("|")[0]
        assert score["recomputed"] == pytest.approx(plain[metric].value, abs=TOLERANCE)
        assert score["stated"] == score["recomputed"]


def test_a_score_that_is_off_by_more_than_the_tolerance_is_not_reproduced(here, quick_drives, cli):
    path = ("predicate", "scores", 0, "measured", 0, "value")
    true = document(here)["predicate"]["scores"][0]["measured"][0]["value"]
    put(here, changed(document(here), path, true + 0.9 * TOLERANCE))
    assert replay(here / "s.bundle").passed
    put(here, changed(document(here), path, true + 1.5 * TOLERANCE))
    code, _, err = cli("replay", here / "s.bundle")
    assert code == 1
    assert f"stated {true + 1.5 * TOLERANCE:.9g}, recomputed {true:.9g}" in err
    assert "NOT reproduced" in err


SCORE = ("predicate", "scores", 0)
ZIP = ("predicate", "zip")
TOLD = {
    "the zip's digest": (("subject", 0, "digest", "sha256"), OTHER, BundleError, rf"s\.zip: its sha256 is .*says {OTHER}"),
    "the zip's name": (("subject", 0, "name"), "t.zip", BundleError, r"holds s\.zip, its subject is t\.zip"),
    "a graph's digest": (("subject", 1, "digest", "sha256"), OTHER, BundleError, rf"challenge_1\.onnx: .* says {OTHER}"),
    "a graph's name": (("subject", 2, "name"), "c.onnx", BundleError, r"c\.onnx: it is not in the zip"),
    "a graph unsaid": (("subject", 2), None, BundleError, r"challenge_2\.onnx: is a graph of the zip and no subject"),
    "the contest": ((*ZIP, "profile"), "eeg2026/bci", BundleError, r'zip\.profile: .*"eeg2026/bci", the zip "eeg2025"'),
    "the manifest": ((*ZIP, "manifestSeal"), OTHER, BundleError, rf"manifestSeal: the statement says \"{OTHER}\""),
    "the ranking": ((*ZIP, "challenges", "1", "metric"), "rmse", BundleError, 'challenges.1.metric: .*"rmse", the zip "nr'),
    "the training": ((*ZIP, "challenges", "2", "trainingData"), [OTHER], BundleError, rf"\[\"{OTHER}\"\], the zip \[\]"),
    "the evidence": ((*ZIP, "evidence"), [{"file": "e.json"}], BundleError, r"evidence: the statement says .*e\.json"),
    "a thing added": ((*ZIP, "award"), "first", BundleError, r'award: the statement says "first", the zip nothing'),
    "a thing left out": ((*ZIP, "rtserve"), None, BundleError, r'rtserve: the statement says "nothing", the zip "'),
    "the file's digest": ((*SCORE, "data", "digest", "sha256"), OTHER, BundleError, rf"w\.npz is .* says {OTHER}"),
    "the file": ((*SCORE, "data", "name"), "data/other.npz", BundleError, r"sha256 of .*other\.npz is "),
    "no such file": ((*SCORE, "data", "name"), "data/none.npz", InputError, r"none\.npz does not exist"),
    "a file anywhere": ((*SCORE, "data", "name"), "/etc/passwd", InputError, r"'/etc/passwd' is no path from"),
    "no file's name": ((*SCORE, "data", "name"), "a" * 300, InputError, "name has 300 letters"),
    "a profile's file": ((*SCORE, "profile"), "./mine.toml", InputError, r"mine\.toml does not come with rtserve"),
    "no score": (("predicate", "scores"), [], InputError, "states no score"),
    "no measure": ((*SCORE, "measured"), [], InputError, "measured is empty"),
    "no number": ((*SCORE, "measured", 0, "value"), "0.9", InputError, "value is str '0.9', not float"),
    "no digest": ((*SCORE, "data", "digest", "sha256"), "ff", InputError, "'ff' is no SHA-256"),
    "another kind": (("predicateType",), "https://slsa.dev/provenance/v1", InputError, "has predicateType 'https://slsa"),
    "another type": (("_type",), "https://in-toto.io/Statement/v0.1", InputError, "has _type 'https://in-toto"),
    "no subject": (("subject",), [], InputError, "has no subject"),
    "a way out": (("subject", 0, "name"), "../s.zip", InputError, r"'\.\./s\.zip', which is no file's name"),
}  # fmt: skip


@pytest.mark.parametrize("part", TOLD)
def test_what_the_statement_says_is_held_against_what_is_there(here, part, monkeypatch):
    path, new, kind, said = TOLD[part]
    monkeypatch.setattr(sandbox, "run", None)  # nothing of the zip is run
    put(here, changed(document(here), path, new))
    with pytest.raises(kind, match=said):
        replay(here / "s.bundle")


def test_a_measure_that_is_another_than_the_stated_one_is_not_compared(here, quick_drives, cli):
    signature = document(here)["predicate"]["scores"][0]["measured"][0]["signature"]
    put(here, changed(document(here), (*SCORE, "measured", 0, "metric"), "nrmse:range"))
    code, _, err = cli("replay", here / "s.bundle")
    assert code == 3
    assert f"stated is {signature}, recomputed {signature.replace('std', 'range').partition('|ddof')[0]}" in err
    put(here, changed(document(here), (*SCORE, "measured", 0, "metric"), "nrmse"))
    put(here, changed(document(here), (*SCORE, "measured", 0, "signature"), signature.replace("n:24", "n:2400")))
    with pytest.raises(NotComparableError, match="n: 2400 against 24"):
        replay(here / "s.bundle")
    put(here, changed(document(here), (*SCORE, "windowsSha256"), OTHER))
    with pytest.raises(BundleError, match=rf"have sha256 {windows(1).digest}, the statement says {OTHER}"):
        replay(here / "s.bundle")


def test_a_zip_that_was_changed_is_not_run_even_where_the_statement_was_changed_with_it(here, monkeypatch):
    monkeypatch.setattr(sandbox, "run", None)
    files = read_zip(here / "s.zip")
    files["submission.py"] += b"\n# mine\n"
    manifest = json.loads(files["manifest.json"])
    manifest["files"]["submission.py"] = hashlib.sha256(files["submission.py"]).hexdigest()
    files["manifest.json"] = json.dumps(seal(manifest), indent=1, sort_keys=True).encode()
    data = zip_bytes(files)
    put(here, **{"s.zip": data})
    with pytest.raises(BundleError, match=r"s\.zip: its sha256 is"):
        replay(here / "s.bundle")
    put(here, changed(document(here), ("subject", 0, "digest", "sha256"), hashlib.sha256(data).hexdigest()))
    with pytest.raises(BundleError, match=r"is not the zip that was built: submission\.py"):
        replay(here / "s.bundle")


def test_windows_that_were_changed_are_refused_and_found_elsewhere_by_their_digest(here, quick_drives):
    moved = (here / "data" / "w.npz").rename(here / "moved.npz")
    save_windows(here / "data" / "w.npz", windows(3))
    with pytest.raises(BundleError, match=sha(here / "data" / "w.npz")) as caught:
        replay(here / "s.bundle")
    assert sha(moved) in str(caught.value)
    assert replay(here / "s.bundle", data=[here / "data" / "other.npz", moved]).passed


def test_what_is_no_bundle_is_called_so(here):
    (here / "x.bundle").write_bytes(zip_bytes({"a": b""}))
    (here / "t.json").write_text('{"_type": "a", "_type": "b"}')
    (here / "l.json").write_text("[]")
    files = read_zip(here / "s.bundle")
    (here / "more.bundle").write_bytes(zip_bytes(files | {"more.zip": b""}))
    for name, said in (
        ("x.bundle", "holds no statement.json"),
        ("t.json", "'_type' stands twice"),
        ("l.json", "is a list, not an object"),
        ("s.zip", "holds no statement.json"),
    ):
        with pytest.raises(InputError, match=said):
            replay(here / name)
    with pytest.raises(BundleError, match=r"more\.zip, s\.zip, its subject is s\.zip"):
        replay(here / "more.bundle")


def test_a_statement_alone_is_about_the_zip_beside_it_and_states_no_score_unasked(here, cli):
    assert cli("attest", here / "s.zip", "-o", here / "s.json")[0] == 0
    first = (here / "s.json").read_bytes()
    assert cli("attest", here / "s.zip", "-o", here / "s.json")[0] == 2  # not over an existing one
    assert cli("attest", here / "s.zip", "-o", here / "s.json", "--force")[0] == 0
    assert (here / "s.json").read_bytes() == first
    stated = json.loads(first)["predicate"] | {"scores": document(here)["predicate"]["scores"]}
    (here / "s.json").write_text(json.dumps(json.loads(first) | {"predicate": stated}))
    (here / "s.zip").write_bytes(zip_bytes({"submission.py": b""}))
    with pytest.raises(BundleError, match=r"s\.zip: its sha256 is"):
        replay(here / "s.json")
    (here / "s.zip").unlink()
    with pytest.raises(InputError, match=r"s\.zip does not exist"):
        replay(here / "s.json")


def test_only_a_whole_zip_that_was_built_here_is_attested(here):
    (here / "foreign.zip").write_bytes(zip_bytes({"submission.py": b""}))
    with pytest.raises(InputError, match="was not built by rtserve"):
        attest(here / "foreign.zip", output=here / "f.bundle")
    (here / "cut.zip").write_bytes(zip_bytes({**read_zip(here / "s.zip"), "more.txt": b""}))
    with pytest.raises(BundleError, match=r"not the zip that was built: more\.txt: is in the zip"):
        attest(here / "cut.zip", output=here / "f.bundle")
    assert not (here / "f.bundle").exists()


def test_a_signature_without_model_signing_is_refused_before_anything_is_done(here, cli, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "model_signing", None)
    monkeypatch.setattr(attesting, "require_whole", None)
    (here / "key.pem").write_text("")
    (here / "s.bundle.sig").write_text("")
    code, _, err = cli("attest", here / "s.zip", "-o", here / "n.bundle", "--sign-key", here / "key.pem")
    assert code == 4
    assert "OpenSSF model-signing is not installed" in err
    assert "pip install model-signing" in err
    assert not (here / "n.bundle").exists()
    with pytest.raises(EnvironmentMissingError):
        replay(here / "s.bundle", verify_key=here / "key.pem")
    with pytest.raises(InputError, match="needs the key"):
        replay(here / "s.bundle", signature=here / "s.bundle.sig")


@pytest.mark.needs("model_signing.signing")
def test_model_signing_signs_a_bundle_and_finds_what_was_changed(here, quick_drives):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    for name in ("mine", "theirs"):
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (here / f"{name}.pem").write_bytes(private)
        (here / f"{name}.pub").write_bytes(public)
    found = attest(here / "s.zip", data=[here / "data" / "w.npz"], output=here / "n.bundle", sign_key=here / "mine.pem")
    assert found.signature == here / f"n.bundle{signing.SUFFIX}"
    unasked = replay(here / "n.bundle")
    assert (unasked.signed, unasked.passed) == (False, True)
    assert replay(here / "n.bundle", verify_key=here / "mine.pub").signed
    with pytest.raises(BundleError, match="is no signature of"):
        replay(here / "n.bundle", verify_key=here / "theirs.pub")
    with pytest.raises(InputError, match="cannot sign"):
        attest(here / "s.zip", output=here / "k.bundle", sign_key=here / "mine.pub")
    statement = json.loads(read_zip(here / "n.bundle")[STATEMENT])
    statement["predicate"]["versions"]["torch"] = "0.1"  # what nothing else could find
    (here / "n.bundle").write_bytes(
        zip_bytes({**read_zip(here / "n.bundle"), STATEMENT: json.dumps(statement).encode()})
    )
    assert replay(here / "n.bundle").versions["torch"][0] == "0.1"
    with pytest.raises(BundleError, match="is no signature of"):
        replay(here / "n.bundle", verify_key=here / "mine.pub")
