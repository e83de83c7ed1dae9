"""RT3, first part: the scorer's own calls, from the import to the number it reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from rtserve.submission.checks.blame import broken_stages, excused_weights, kind_of, shown, where
from rtserve.submission.checks.rule import WARN, Case, Finding, Rule, Skip

if TYPE_CHECKING:
    from rtserve.submission.profile import Challenge

__all__ = ["RULES"]

STAGES = ("import", "construct", "build", "eval", "forward")
CORE = ("start", "import", "construct", "build", "object", "eval", "deepcopy", "forward", "windows")


class Starts(Rule):
    """The environment can run the drive."""

    code = "RT301"
    requires = ("RT004",)
    cause = "Python or torch of this environment does not start."
    cure = "Repair the environment, or name another with --env."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        if case.drive is None:
            yield Skip(reason="the run was left out", incomplete=True)
            return
        start = case.drive.first("start")
        if start is None or not start["ok"]:
            said = (
                shown(start["error"]) if start else case.drive.outcome.text.strip()[-300:] or case.drive.outcome.stopped
            )
            yield Skip(reason=f"the environment does not start: {said}", incomplete=True)


class Ends(Rule):
    """The process lives until the scorer is done with it, within its limits."""

    code = "RT302"
    requires = ("RT301",)
    cause = (
        "os._exit, a crash in compiled code, endless output, or more memory, processes or time than the sandbox allows."
    )
    cure = "Let the code return to its caller; keep memory and output small."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        drive = case.drive
        if drive is None or drive.finished:
            return
        broken = drive.first("broken")
        if broken is not None:
            yield Skip(reason=f"the checker's own calls failed: {shown(broken['error'])}", incomplete=True)
            return
        stage, challenge = drive.last_begun
        outcome = drive.outcome
        failed = any(e.get("ok") is False for e in drive.events)
        if not outcome.stopped and outcome.returncode == 0 and failed and stage in ("import", "construct"):
            return  # it ended because an early stage failed, which other rules report
        why = outcome.stopped or self._ending(outcome.returncode)
        core = stage in CORE or not case.all_ran
        yield Finding(
            message=f"the process ended while the scorer was at {stage!r}: {why}",
            challenge=challenge,
            severity="" if core else WARN,
        )

    def _ending(self, code: int) -> str:
        if code < 0 or code > 128:
            return f"it was killed by signal {-code if code < 0 else code - 128}"
        return f"it left with exit code {code} before the end"


class Runs(Rule):
    """Importing, constructing and building raise nothing."""

    code = "RT303"
    requires = ("RT301",)
    cause = "An exception on the way to the network."
    cure = "Run the getter in the scorer's environment and follow the line named here."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        kinds = ("other", "package", "network", "read-only", "memory", "damaged")
        cures = {
            "damaged": "the file is damaged or no weights file: copy it again and compare its digest",
            "network": "the scorer has no network: ship the file in the zip",
            "read-only": "the submission's folder is read-only: write to a temporary folder, or not at all",
            "package": "ship the package inside the zip, or do without it",
            "memory": "load weights once, in float32, and free what is not used",
        }
        for event, verdict in broken_stages(case, ("import", "construct", "build", "eval"), kinds):
            cure = cures.get(kind_of(event["error"]), "")
            module = str(event["error"]["module"] or "")
            if module and f"{module.partition('.')[0]}.py" in case.unpacked.names and case.profile.entry.every_script:
                cure = "no module of the zip can be imported: write it into the entry script"
            yield replace(verdict, cure=cure) if isinstance(verdict, Finding) else verdict


class FindsFiles(Rule):
    """Every file is found where the scorer puts it, with another current folder."""

    code = "RT304"
    requires = ("RT301",)
    cause = "A relative path, or a folder that exists only on the author's machine."
    cure = "Open files through Path(__file__).resolve().parent / NAME."
    copied = "the script is scored from a copy that lies elsewhere: open files through meta['submission_dir'] / NAME"

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        layout, cure = case.profile.layout, self.copied if case.profile.entry.every_script else self.cure
        holds = [n for n in case.unpacked.files() if not n.endswith((".py", ".md"))]
        for event, verdict in broken_stages(case, STAGES, ("path",)):
            if isinstance(verdict, Skip):
                yield verdict
                continue
            path = event["error"].get("path") or ""
            named = f"; it opened {path}" if path else ""
            inside = ", ".join(holds[:8]) or "no data files"
            places = f"the files are in {layout.submission} ({inside}), the current folder is {layout.cwd}"
            message = f"{verdict.message}{named}; {places}"
            named_in_text = re.search(
                r"[\w.\-]+\.(?:pt|pth|pkl|joblib|npz|npy|ckpt|onnx|json|bin)\b", event["error"]["text"]
            )
            base = PurePosixPath(path).name or (named_in_text[0] if named_in_text else "")
            absent = bool(base) and base not in {PurePosixPath(n).name for n in case.unpacked.files()}
            yield replace(verdict, message=message, cure=f"add {base} to the zip" if absent else cure)


class FitsNetwork(Rule):
    """Weights fit the network that they are loaded into."""

    code = "RT305"
    requires = ("RT301",)
    cause = "The network in the script is not the one that was trained, or the file is another's."
    cure = "Build the network with the settings it was trained with, or save the state_dict of this one."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for event, verdict in broken_stages(case, STAGES, ("weights",)):
            entry = last_failed_fit(case, event["challenge"])
            if entry is None:
                yield verdict
                continue
            if nested_keys(case, entry):
                continue
            reason = verdict.reason if isinstance(verdict, Skip) else excused_weights(case, entry)
            if reason:
                yield Skip(reason=reason, incomplete=True)
                continue
            yield Finding(
                message=f"{entry['file'] or 'the state_dict'} does not fit {entry['class']}: {fit_text(entry)}",
                where=where(event["error"]),
                challenge=event["challenge"],
            )


def last_failed_fit(case: Case, challenge: str) -> dict[str, Any] | None:
    """Return the last state_dict load that failed while a challenge was built."""
    entries = [e for e in case.loads(challenge) if e["kind"] == "load_state_dict" and e["error"] and "missing" in e]
    return entries[-1] if entries else None


def fit_text(entry: dict[str, Any]) -> str:
    """Return every key that does not fit, by kind."""
    parts = []
    for kind in ("missing", "unexpected"):
        if entry[kind]:
            parts.append(f"{len(entry[kind])} {kind} ({', '.join(entry[kind])})")
    if entry["misshapen"]:
        shapes = [
            f"{m['key']} {tuple(m['file'])} in the file, {tuple(m['network'])} in the network"
            for m in entry["misshapen"]
        ]
        parts.append(f"{len(shapes)} of another shape ({'; '.join(shapes)})")
    return "; ".join(parts) or "the network refuses it"


def nested_keys(case: Case, entry: dict[str, Any]) -> list[str]:
    """Return keys of a checkpoint that hold the weights it should have been asked for."""
    usual = ("model_state_dict", "state_dict", "model", "model_state", "net", "network", "weights", "params", "ema")
    keys = entry.get("nested") or [key for key in entry.get("unexpected", ()) if key in usual]
    return list(keys)


class Unwrapped(Rule):
    """A checkpoint is unwrapped before its weights are loaded."""

    code = "RT306"
    requires = ("RT301",)
    cause = "The file is a dictionary that holds the weights under a key, with epochs and optimizer beside them."
    cure = "Take the key: `checkpoint['model_state_dict']`."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for event, _ in broken_stages(case, STAGES, ("weights",)):
            entry = last_failed_fit(case, event["challenge"])
            keys = nested_keys(case, entry) if entry else []
            if entry and keys:
                yield Finding(
                    message=f"{entry['file']} is a checkpoint, its weights are under {keys[0]!r}",
                    where=where(event["error"]),
                    cure=f"load checkpoint[{keys[0]!r}] instead of the whole file",
                    challenge=event["challenge"],
                )


class LoadsByDefault(Rule):
    """torch.load is allowed to read what the file holds."""

    code = "RT307"
    requires = ("RT301",)
    cause = "torch 2.6 and later refuse anything but tensors unless told weights_only=False."
    cure = "Save the state_dict alone as tensors, or pass weights_only=False to torch.load."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for event, verdict in broken_stages(case, STAGES, ("refused",)):
            named = re.search(r"GLOBAL ([\w.]+)|Unsupported class ([\w.]+)", event["error"]["text"])
            if isinstance(verdict, Finding) and named:
                verdict = replace(verdict, message=f"the file holds {named[1] or named[2]}, which torch.load refuses")
            yield verdict


class FindsClasses(Rule):
    """Pickled objects find the classes that they were made of."""

    code = "RT308"
    requires = ("RT301",)
    cause = "A pickle names classes by module; here that module is another or has no such class."
    cure = "Save numbers instead of objects (state_dict, .npz), or define the class where the pickle seeks it."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for _, verdict in broken_stages(case, STAGES, ("class",)):
            yield verdict


class RunsWithoutGpu(Rule):
    """The submission runs on the device it is given, a CPU among them."""

    code = "RT309"
    requires = ("RT301",)
    cause = "cuda is written into the code, or torch.load has no map_location."
    cure = "Use DEVICE everywhere, and torch.load(..., map_location=DEVICE)."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for _, verdict in broken_stages(case, STAGES, ("device",)):
            yield verdict


class GivesModel(Rule):
    """Each getter returns one object with the methods that the scorer calls."""

    code = "RT310"
    requires = ("RT301",)
    after = "build"
    cause = "A list, a function, a class, None, or a prediction is returned instead of a network."
    cure = "Return an nn.Module, or an object with these methods."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        events = case.drive.all("object") if case.drive is not None else []
        for event in events:
            if event.get("missing"):
                call = next((c.call for c in case.challenges if c.key == event["challenge"]), "the getter")
                yield Finding(
                    message=f"{call} returns {event['type']}, which has no {' and no '.join(event['missing'])}",
                    challenge=event["challenge"],
                )


class Forward(Rule):
    """The network takes the contest's windows."""

    code = "RT311"
    requires = ("RT301",)
    after = "object"
    cause = "It was built for another number of channels or samples, or fails at batch 1."
    cure = "Run it on torch.zeros with the contest's shape."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for event, verdict in broken_stages(
            case, ("forward", "windows"), ("other", "package", "memory", "network", "read-only")
        ):
            if isinstance(verdict, Finding):
                signal = case.profile.signal_of(event["challenge"])
                size = case.profile.challenge(event["challenge"]).size
                shape = f"({size}, {signal.n_chans}, {signal.n_times})"
                method = case.profile.entry.method
                verdict = replace(verdict, message=f"{method}(X) with X {shape} raises {shown(event['error'])}")
            yield verdict


class Output(Rule):
    """The scorer can read its number from what the network returns."""

    code = "RT312"
    requires = ("RT301",)
    after = "forward"
    cause = "squeeze() at batch 1 gives a scalar; arrays, tuples, dictionaries and bfloat16 cannot be read."
    cure = "Return a float32 tensor of shape (batch, 1): `y.reshape(x.shape[0], 1)`."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for challenge in case.challenges:
            event = case.drive.first("forward", challenge.key) if case.drive is not None else None
            if event is None or not event.get("ok"):
                continue
            if case.profile.entry.style == "solver":
                yield from self._shape(event, challenge)
            else:
                yield from self._read(event, challenge.key, case.profile.primary.packages.get("numpy", ""))

    def _read(self, event: dict[str, Any], key: str, numpy: str) -> Iterator[Finding]:
        what = _what(event)
        if event["dtype"].startswith("complex"):
            yield Finding(message=f"forward returns {what}; a real number is read", challenge=key)
        elif "read_error" in event:
            yield Finding(message=f"forward returns {what}; [0][0] dies of {event['read_error']}", challenge=key)
        elif event["array"] and not numpy_reads_arrays(numpy):
            died = f"[0][0] is an array, which NumPy {numpy or '2.4'} reads as no number"
            yield Finding(message=f"forward returns {what}; {died}", challenge=key)
        elif event["shape"] not in ([1, 1], None):
            first = "the scorer reads the first number of it"
            yield Finding(message=f"forward returns {what} instead of (1, 1); {first}", challenge=key, severity=WARN)

    def _shape(self, event: dict[str, Any], challenge: Challenge) -> Iterator[Finding]:
        read = " or ".join(f"({', '.join(shape)})" for shape in (challenge.output, *challenge.accepts))
        said = ""
        if event["array_shape"] is None:
            said = f", not an array of shape {read}"
        elif not challenge.reads(event["array_shape"]):
            said = f" for {'one window' if challenge.size == 1 else f'{challenge.size} windows'}; {read} is read"
        elif event["dtype"].startswith("complex"):
            said = "; real numbers are read"
        if said:
            cure = f"return an array of shape {read}, of real numbers"
            yield Finding(message=f"predict returns {_what(event)}{said}", cure=cure, challenge=challenge.key)


def numpy_reads_arrays(version: str) -> bool:
    """Whether `float` of an array of one number gives it: deprecated in NumPy 1.25, an error from 2.4 on."""
    parts = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    return len(parts) == 2 and parts < [2, 4]


def _what(event: dict[str, Any]) -> str:
    if event["keys"] is not None:
        return f"a dict with {', '.join(event['keys'])}"
    if event["length"] is not None:
        return f"a {event['type'].rpartition('.')[2]} of {event['length']}"
    if event["shape"] is None:
        return str(event["type"]).rpartition(".")[2]
    shape = f"({', '.join(str(s) for s in event['shape'])}{',' if len(event['shape']) == 1 else ''})"
    dims = {0: ", a 0-d scalar", 1: ", 1-d"}.get(len(event["shape"]), "")
    return f"a {event['dtype']} {'tensor' if event['tensor'] else event['type']} of shape {shape}{dims}"


class Finite(Rule):
    """Predictions on clean windows are finite."""

    code = "RT313"
    requires = ("RT301",)
    after = "windows"
    cause = "A division by a standard deviation of zero, a logarithm of zero, or weights that are NaN."
    cure = "Add a small constant where you divide; look for NaN in the weights."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for challenge in case.challenges:
            event = case.drive.first("windows", challenge.key) if case.drive is not None else None
            if event is not None and event.get("ok") and event["non_finite_at"] is not None:
                index, signal = event["non_finite_at"], case.profile.signal_of(challenge.key)
                yield Finding(
                    message=f"window {index} of {len(event['values'])} clean ones at {signal.scale:g}"
                    f" {signal.unit or '(unit not stated)'} gives {event['values'][index]}",
                    challenge=challenge.key,
                )


RULES: tuple[type[Rule], ...] = (
    Starts, Ends, Runs, FindsFiles, FitsNetwork, Unwrapped, LoadsByDefault, FindsClasses, RunsWithoutGpu, GivesModel,
    Forward, Output, Finite,
)  # fmt: skip
