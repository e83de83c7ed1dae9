"""Containers of strangers: each way to be wrong is found with both values, and what is right is let be."""

from __future__ import annotations

import pytest

from rtserve.submission import container_run, sandbox
from rtserve.submission import report as shapes
from rtserve.submission.container_drills import drills
from rtserve.submission.container_table import HEADER, KIND, LENGTH, ROW, faults
from rtserve.submission.dockerfile import Copy, read_dockerfile
from rtserve.submission.profile import load_profile
from rtserve.submission.validate import check
from tests.submission.containers import ANSWER, strangers
from tests.submission.zips import write_zip

PROFILE = load_profile("szcore")
TABLE = PROFILE.container.table
SHORT = [
    d for d in drills(PROFILE.container.recordings, PROFILE.signal_of("seizures")) if d.name in ("stated", "others")
]
isolated = pytest.mark.skipif(sandbox.best_kind() == "plain", reason="neither bubblewrap nor unshare works here")


@pytest.fixture
def checked(tmp_path, monkeypatch):
    """Check a stranger's zip on two short recordings."""
    monkeypatch.setattr(container_run, "drills", lambda *_: SHORT)

    def run(*pairs, docker=(), more=None, **options):
        return check(strangers(tmp_path, *pairs, docker=docker, **(more or {})), profile="szcore", **options)

    return run


def found(report, status="failed"):
    """Return code and first message of the results of a status."""
    return {r.code: r.findings[0].message if r.findings else r.reason for r in report.results if r.status == status}


HEAD = 'header = "onset duration eventType confidence channels dateTime recordingDuration"'
WRONG = {
    "another header": ((HEAD, HEAD.replace("eventType", "event")), "RT506", ["duration\\tevent\\t", "eventType"]),
    "another length": (("{seconds:.2f}", "{seconds - 4:.2f}"), "RT509", ["recordingDuration is 56 s", "has 60 s"]),
    "an unknown kind": ((" sz ", " sz-foc "), "RT508", ["'sz-foc'", "sz(_[A-Za-z0-9]+)*"]),
    "another exit code": (("import sys\n", "import sys\nsys.exit('no montage')\n"), "RT503", ["ends with 1, not 0: no"]),
    "a fetch that fails": (
        ("import sys\n", "import sys, socket\nsocket.create_connection(('192.0.2.7', 443), 2)\n"),
        "RT504", ["asks for 192.0.2.7:443", "without any network"],
    ),
    "a fetch that is caught": (
        ("import sys\n", "import sys, socket\ntry: socket.getaddrinfo('weights.invalid', 443)\nexcept OSError: pass\n"),
        "RT504", ["asks for weights.invalid:443"],
    ),
    "a table of another name": (
        ("open(target, ", "open('/tmp/table.tsv', "), "RT505", ["/output/stated.tsv, which $OUTPUT names, is empty"],
    ),
    "a table that is moved there": (
        ("with open(target, ", "import os\nwith open(target + '.part', "), "RT503", ["ends with 1", "Permission denied"],
    ),
    "no rows": (("(header, *rows)", "(header,)"), "RT507", ["no row", "'bckg'"]),
    "no date": (("2024-02-29_23:59:30", "n/a"), "RT507", ["dateTime is 'n/a', not a time as %Y-%m-%d %H:%M:%S"]),
    "an event beyond the end": (("12.50 20.00", "50.00 20.00"), "RT507", ["ends at 70 s", "the recording at 60 s"]),
    "overlapping events": (
        ("rows = [", 'rows = [f"5.00 10.00 sz n/a n/a 2024-02-29_23:59:30 {seconds:.2f}", '), "RT507",
        ["at 12.5 s begins before the one at 5 s ends, at 15 s"],
    ),
    "numbers that are none": (("12.50", "nan"), "RT507", ["onset is 'nan', not a number"]),
    "channels from the end": (
        ("12.50 20.00", "{2.0 + (handle.close() or len(open(source, 'rb').read())) % 7:.2f} 20.00"), "RT510", ["without it"],
    ),
}  # fmt: skip


@isolated
@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_named_with_both_values(checked, what):
    pair, code, said = WRONG[what]
    report = checked(pair)
    failed = found(report)
    assert code in failed, shapes.tick_list(report)
    assert report.exit_code == 1
    for text in said:
        assert text in failed[code]


@isolated
def test_who_asks_the_network_is_counted_where_no_python_says_so(checked):
    asking = (
        "import sys\n",
        "import sys, socket\ntry: socket.create_connection(('192.0.2.7', 443), 2)\nexcept OSError: pass\n",
    )
    report = checked(asking, docker=(("CMD python3", "CMD python3 -I"),))
    assert "packets that had nowhere to go" in found(report)["RT504"]


RIGHT = {
    "an exec form and an entry point": (
        (), [('CMD python3 answer.py "/data/$INPUT" "/output/$OUTPUT"',
              'ENTRYPOINT ["sh", "-c"]\nCMD ["exec python3 answer.py /data/$INPUT /output/$OUTPUT"]')],
    ),
    "a wildcard, a folder with a slash, a comment": ((), [("COPY answer.py .", "# everything\nCOPY *.py \\\n  ./\n")]),
    "an event without confidence": ([(" 0.9 ", " n/a ")], []),
    "a kind of seizure": ([(" sz ", " sz_foc_ia ")], []),
    "no event": ([("12.50 20.00 sz", "0.00 {seconds:.2f} bckg")], []),
    "whole seconds": ([("{seconds:.2f}", "{int(seconds)}")], []),
    "a socket of the file system": (
        [("import sys\n", "import sys, socket\na, b = socket.socketpair()\nos = __import__('os')\n")], [],
    ),
}  # fmt: skip


@isolated
@pytest.mark.parametrize("what", RIGHT)
def test_what_is_odd_and_right_passes(checked, what):
    pairs, docker = RIGHT[what]
    report = checked(*pairs, docker=tuple(docker))
    assert report.verdict == "passed", shapes.tick_list(report)
    assert not found(report, "warned")


CANNOT = {
    "a package that is not here": ((("import sys\n", "import sys, pkg_of_nobody\n"),), (), "pkg_of_nobody is not in"),
    "a program that is not here": ((), (("CMD python3 answer.py", "CMD julia answer.jl"),), "is not in the Python"),
    "a file of its own folder": (
        (("import sys\n", "import sys\nopen('/usr/cache', 'w')\n"),), (), "it writes where only an image lets it",
    ),
    "another image's files": ((), (("COPY answer.py .", "COPY --from=base /x /app/x"),), "takes files of another image"),
    "a folder of the machine": ((), (("WORKDIR /app", "WORKDIR /usr/app"),), "this machine's own here"),
}  # fmt: skip


@isolated
@pytest.mark.parametrize("what", CANNOT)
def test_what_this_machine_cannot_run_is_incomplete_never_passed(checked, what):
    pairs, docker, said = CANNOT[what]
    report = checked(*pairs, docker=docker)
    assert report.verdict == "incomplete", shapes.tick_list(report)
    assert any(said in reason for reason in found(report, "skipped").values()), shapes.tick_list(report)


@isolated
def test_a_run_that_takes_too_long_is_incomplete(checked):
    slow = ("import sys\n", "import sys, time\ntime.sleep(30)\n")
    report = checked(slow, limits=sandbox.Limits(wall_s=1.5))
    assert report.verdict == "incomplete"
    assert "it ran longer than 1.5 s" in found(report, "skipped")["RT503"]


def test_a_dockerfile_that_runs_nothing_or_copies_what_is_not_there_fails(checked, tmp_path):
    nothing = checked(docker=(("CMD", "# CMD"),))
    assert "neither CMD nor ENTRYPOINT" in found(nothing)["RT501"]
    lacking = checked(docker=(("COPY answer.py .", "COPY answer.py model.onnx ./"),))
    assert "'model.onnx': the zip has no such file" in found(lacking)["RT501"]
    outside = checked(docker=(("COPY answer.py .", "COPY ../../etc/hostname ./"),))
    assert "RT501" in found(outside)
    nameless = checked(docker=(('VOLUME ["/output"]\n', ""), ('ENV INPUT="" OUTPUT=""', 'ENV INPUT=""')))
    assert "the contest's own states /output, $OUTPUT as well" in found(nameless, "warned")["RT502"]
    without = check(write_zip(tmp_path / "w.zip", {"answer.py": ANSWER}), profile="szcore")
    assert "there is no Dockerfile" in found(without)["RT004"]


def test_a_dockerfile_is_read_as_docker_reads_it():
    text = """
    # syntax=docker/dockerfile:1
    ARG BASE=/opt
    FROM python:3.12 AS build
    COPY secrets /root/
    CMD ["false"]
    FROM python:3.12-slim
    ENV HOME_OF=/srv NAME="a b"
    ENV OLD the old form
    WORKDIR $HOME_OF
    WORKDIR app
    COPY --chown=1:1 a.py b.py \\
        # in between

        sub/
    ADD ["c d.txt", "."]
    VOLUME /data /output
    SHELL ["/bin/bash", "-c"]
    RUN pip install x
    CMD python a.py
    """
    image = read_dockerfile(text)
    assert image.workdir == "/srv/app"
    assert image.environment == {"HOME_OF": "/srv", "NAME": "a b", "OLD": "the old form"}
    assert [(copy.sources, copy.target) for copy in image.copies] == [
        (("a.py", "b.py"), "/srv/app/sub/"),
        (("c d.txt",), "/srv/app/"),
    ]
    assert image.volumes == ["/data", "/output"]
    assert image.runs == ("/bin/bash", "-c", "python a.py")
    assert image.unknown == []
    assert isinstance(image.copies[0], Copy)
    odd = read_dockerfile(
        "FROM x\nCOPY <<END /a\nhello\nEND\nADD https://a.b/c /d\nCOPY one\nENTRYPOINT run it\nCMD more"
    )
    assert len(odd.unknown) == 3
    assert odd.runs == ("/bin/sh", "-c", "run it")
    assert read_dockerfile("").runs == ()


GOOD = "\t".join(TABLE.columns) + "\n12.50\t20.00\tsz\t0.9\tn/a\t2024-02-29 23:59:30\t60.00\n"


@pytest.mark.parametrize(
    ("old", "new", "about"),
    [
        ("onset\t", "Onset\t", HEADER),
        ("\t", ",", HEADER),
        ("\n12", "\n\ufeff12", ROW),
        ("12.50", "12,50", ROW),
        ("12.50", "-1", ROW),
        ("12.50", "1e999", ROW),
        ("20.00", "47.60", ROW),
        ("20.00", "", ROW),
        ("0.9", "1.01", ROW),
        ("\t60.00", "", ROW),
        ("60.00", "59.99", LENGTH),
        ("60.00", "61", LENGTH),
        ("23:59:30", "23:59", ROW),
        ("sz", "SZ", KIND),
        ("sz", "bckg", ROW),
        ("sz", "", KIND),
    ],
)
def test_a_table_is_held_to_the_letter(old, new, about):
    assert faults(GOOD, TABLE, seconds=60.0) == []
    assert [fault.about for fault in faults(GOOD.replace(old, new), TABLE, seconds=60.0)][:1] == [about]


def test_what_no_table_is_is_said():
    for text in ("", "\n", "PK\x03\x04", ANSWER):
        assert faults(text, TABLE, seconds=60.0)[0].about == HEADER
