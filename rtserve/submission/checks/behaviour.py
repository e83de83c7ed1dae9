"""RT3, second part: what the network does beyond the scorer's own calls; mostly warnings."""

from __future__ import annotations

import ast
import math
import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rtserve.submission.checks.blame import shown, where
from rtserve.submission.checks.rule import FAIL, WARN, Case, Finding, Rule, Skip

if TYPE_CHECKING:
    from rtserve.submission.profile import Challenge

__all__ = ["RULES", "SAME", "events", "repeatable"]

SAME = 1e-5
"""Relative difference below which two results are the same."""


def events(case: Case, stage: str) -> list[dict[str, Any]]:
    """Return the events of a stage that ended well."""
    return [e for e in case.drive.all(stage) if e.get("ok")] if case.drive is not None else []


def scales(case: Case, challenge: str) -> list[dict[str, Any]]:
    """Return what windows of other sizes gave."""
    event = case.drive.first("scales", challenge) if case.drive is not None else None
    return list((event or {}).get("scales", ()))


def repeatable(case: Case, challenge: str) -> bool:
    """Whether the same window gave the same number twice."""
    event = case.drive.first("repeat", challenge) if case.drive is not None else None
    return bool(event and event.get("ok") and event["plain"] < SAME)


def _few(values: list[float]) -> str:
    return ", ".join(f"{value:.5g}" for value in values[:3])


class HooksRun(Rule):
    """What model(X) gives is what the scorer's forward(X) gives."""

    code = "RT314"
    requires = ("RT301",)
    after = "called"
    styles = ("getters",)
    cause = "The scorer calls forward directly: forward hooks, and a __call__ of your own, never run."
    cure = "Do the work inside forward."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for event in events(case, "called"):
            key = event["challenge"]
            if event.get("difference", 0.0) < SAME or not repeatable(case, key):
                continue
            thing = case.drive.first("object", key) if case.drive is not None else None
            hooked = bool(thing and thing["hooks"])
            shapes = event["shapes"]
            numbers = f"forward(X) gives {_few(event['scored'])}, model(X) {_few(event['called'])}"
            if shapes[0] != shapes[1]:
                numbers += f" (shapes {shapes[0]} and {shapes[1]})"
            how = f"{thing['hooks']} forward hooks never run" if hooked and thing else "its own __call__ never runs"
            yield Finding(message=f"{how}: {numbers}", challenge=key, severity="" if hooked else WARN)


class WeightsLoaded(Rule):
    """The weights come from the zip: two builds under two random seeds hold the same numbers."""

    code = "RT315"
    requires = ("RT301",)
    after = "again"
    cause = "A load failed and the failure was swallowed, or nothing was loaded: the network is random."
    cure = "Remove the try/except around the load and follow the error; check the file's path and keys."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for event in events(case, "again"):
            if event["n_changed"] and event["output_difference"] > 1e-6:
                yield self._judge(case, event)

    def _judge(self, case: Case, event: dict[str, Any]) -> Finding:
        key = event["challenge"]
        some = ", ".join(event["changed"][:3])
        text = f"{event['n_changed']} of {event['tensors']} tensors depend on the random seed ({some})"
        loads = case.loads(key) or case.loads()
        failed = [entry for entry in loads if entry["error"]]
        loose = [e for e in loads if e["kind"] == "load_state_dict" and not e.get("strict", True) and e.get("missing")]
        if failed and not self._mended(loads):
            error = failed[-1]["error"]
            return Finding(
                message=f"{text}: a load failed and was swallowed: {shown(error)}", where=where(error), challenge=key
            )
        lost = [name for entry in loose for name in entry["missing"] if any(c.endswith(name) for c in event["changed"])]
        if lost:
            return Finding(
                message=f"{text}: load_state_dict(strict=False) passed over {len(lost)} keys ({', '.join(lost[:5])})",
                challenge=key,
            )
        if not loads and self._loads_in_code(case):
            return Finding(message=f"{text}: the code loads weights, but no load took place", challenge=key)
        return Finding(message=f"{text}: no load is attempted for them", challenge=key, severity=WARN)

    def _mended(self, loads: list[dict[str, Any]]) -> bool:
        """Whether a load that worked came after the last one that failed."""
        last = max(index for index, entry in enumerate(loads) if entry["error"])
        return any(e["kind"] in ("load_state_dict", "torch.jit.load") and not e["error"] for e in loads[last + 1 :])

    def _loads_in_code(self, case: Case) -> bool:
        for _, _, node, _ in case.reached_nodes:
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                ("torch.load", "load_state_dict", "jit.load")
            ):
                return True
        return False


class EvalReaches(Rule):
    """eval() reaches every part of the network."""

    code = "RT316"
    severity = WARN
    requires = ("RT301",)
    after = "modes"
    cause = "Sub-networks in a plain list or dict, or an eval() of your own: dropout stays on."
    cure = "Keep sub-networks in nn.ModuleList, or call eval() on each in the getter."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for event in events(case, "modes"):
            if event["stray"]:
                names = ", ".join(event["stray"][:5])
                yield Finding(
                    message=f"in training mode after eval(), in plain containers: {names}", challenge=event["challenge"]
                )
            if event["training"]:
                names = ", ".join(event["training"][:5])
                yield Finding(message=f"in training mode after eval(): {names}", challenge=event["challenge"])


class Repeatable(Rule):
    """The same window gives the same number."""

    code = "RT317"
    severity = WARN
    requires = ("RT301",)
    after = "repeat"
    cause = "Noise in forward, dropout left on, or state that is carried from call to call."
    cure = "Nothing, where that is meant; otherwise draw no random numbers in forward and keep no state."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for event in events(case, "repeat"):
            if event["plain"] >= SAME:
                noisy = event["seeded"] < SAME
                kind = "the output is random" if noisy else "the output depends on earlier calls"
                first, second = event["values"]
                yield Finding(
                    message=f"{kind}: one window gives {_few(first)}, then {_few(second)}", challenge=event["challenge"]
                )


class Batches(Rule):
    """A window's prediction does not depend on the batch it is in."""

    code = "RT318"
    severity = WARN
    requires = ("RT301",)
    after = "batches"
    cause = "Statistics over the batch, or a reshape that fits batch 1 only."
    cure = "Compute per window; keep the first dimension."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for event in events(case, "batches"):
            challenge = case.profile.challenge(event["challenge"])
            if not repeatable(case, challenge.key):
                continue
            for row in event["rows"]:
                found = self._judge(row, challenge)
                if found is not None:
                    yield found
                    break

    def _judge(self, row: dict[str, Any], challenge: Challenge) -> Finding | None:
        broken = self._broken(row)
        if broken and challenge.streaming:
            return None  # its scorer gives one window at a time
        if broken:
            return Finding(message=broken, challenge=challenge.key, severity=FAIL if challenge.batch > 1 else "")
        if row["difference"] <= 1e-4 or challenge.coupling == "allow":
            return None
        given = "alone" if challenge.size == 1 else f"in one of {challenge.size}"
        text = f"in a batch of {row['size']} the windows give {_few(row['rows'])}, {given} {_few(row['alone'])}"
        if challenge.streaming:
            text += "; the scorer gives one at a time"
        return Finding(message=text, challenge=challenge.key, severity=FAIL if challenge.coupling == "fail" else "")

    def _broken(self, row: dict[str, Any]) -> str:
        if "error" in row:
            return f"a batch of {row['size']} raises {row['error']}"
        if row["shape"] is not None and (not row["shape"] or row["shape"][0] != row["size"]):
            return f"a batch of {row['size']} gives shape {row['shape']}"
        return ""


class Responds(Rule):
    """The prediction moves with the signal, in the contest's unit."""

    code = "RT319"
    severity = WARN
    requires = ("RT301",)
    after = "windows"
    cause = "Weights that never learnt, or were trained in another unit (microvolt, z-scores)."
    cure = "Check the unit of the training data; put the scaling into forward."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for event in events(case, "windows"):
            key = event["challenge"]
            values = [v for v in event["values"] if math.isfinite(v)]
            if len(values) < 3:
                continue
            spread, mean = statistics.pstdev(values), statistics.fmean(values)
            if event["moved"] <= 1e-5 and spread <= 1e-5 * max(abs(mean), 0.1):
                yield from self._constant(case, key, mean, spread)
            yield from self._mean(case, key, mean)

    def _constant(self, case: Case, key: str, mean: float, spread: float) -> Iterator[Finding]:
        signal, challenge = case.profile.signal_of(key), case.profile.challenge(key)
        unit = signal.unit if signal.unit != "1" else "standard deviations"
        classes = challenge.target == "class"
        text = f"{mean:.5g} for every window (spread {spread:.2g})"
        if case.profile.entry.style == "getters" and not classes:
            text += "; a constant scores 1.0 at best"
        moving = [row for row in scales(case, key) if self._moves(row, mean, classes)]
        nearest = min(moving, key=lambda row: abs(math.log(row["scale"] / signal.scale)), default=None)
        if nearest is not None:
            ratio = nearest["scale"] / signal.scale
            size = f"{ratio:.0e} times as large" if ratio > 1 else f"{1 / ratio:.0e} times as small"
            given = f", the contest gives {signal.scale:g} {unit}" if unit else ""
            text += f". It moves at {nearest['scale']:g}{given}: it looks trained on data {size}"
        if nearest is not None or not classes:
            yield Finding(message=text, challenge=key)

    def _moves(self, row: dict[str, Any], mean: float, classes: bool) -> bool:
        """Whether the answers differ at a scale; a class has to differ between windows, a number from the constant."""
        if classes or row["moved"] > 1e-3:
            return bool(row["moved"] > 1e-3)
        return any(abs(value - mean) > 1e-3 * max(abs(mean), 0.1) for value in row["values"])

    def _mean(self, case: Case, key: str, mean: float) -> Iterator[Finding]:
        challenge = case.profile.challenge(key)
        if challenge.plausible and not challenge.plausible[0] <= mean <= challenge.plausible[1]:
            low, high = challenge.plausible
            penalty = ""
            if challenge.spread:
                off = max(low - mean, mean - high)
                penalty = f"; alone that costs at least {off / challenge.spread:.2g} in NRMSE"
            target = challenge.target.replace("_", " ")
            yield Finding(
                message=f"mean prediction {mean:.4g} for {target}, expected {low} to {high}{penalty}", challenge=key
            )


class Possible(Rule):
    """Every answer lies where the target can lie."""

    code = "RT328"
    requires = ("RT301",)
    after = "windows"
    cause = "Another unit than the contest's (degrees for radians), or an index of a class that there is not."
    cure = "Answer in the unit that the contest reads (an index, not a probability); clip where that is what is meant."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for event in events(case, "windows"):
            challenge = case.profile.challenge(event["challenge"])
            if not challenge.possible or event["low"] is None:
                continue
            low, high = challenge.possible
            between = [value for value in event["values"] if math.isfinite(value) and not value.is_integer()]
            if challenge.target == "class" and between:
                message = f"an answer is {between[0]:.5g}; classes are whole numbers from {low:g} to {high:g}"
                yield Finding(message=message, challenge=challenge.key)
                continue
            if low <= event["low"] and event["high"] <= high:
                continue
            worst = event["low"] if event["low"] < low else event["high"]
            target = challenge.target.replace("_", " ")
            message = f"an answer is {worst:.5g}; {target} lies in {low:g} to {high:g}"
            fits = self._fitting_scale(case, challenge)
            untried = bool(case.profile.signal_of(challenge.key).scales) and not scales(case, challenge.key)
            if untried:
                message += "; the contest does not state the unit of its windows, and no other size was tried"
            if fits:
                message += f". On windows of {fits:g} all lie there: the contest does not state its unit"
            severity = WARN if fits or untried else challenge.impossible
            yield Finding(message=message, challenge=challenge.key, severity=severity)

    def _fitting_scale(self, case: Case, challenge: Challenge) -> float:
        """Return a size of the windows that is plausible and at which all answers are possible; 0 where there is none."""
        low, high = challenge.possible
        plausible = case.profile.signal_of(challenge.key).scales
        rows = [row for row in scales(case, challenge.key) if any(math.isclose(row["scale"], s) for s in plausible)]
        good = [row["scale"] for row in rows if row["low"] is not None and low <= row["low"] <= row["high"] <= high]
        return float(good[0]) if good else 0.0


class BadChannels(Rule):
    """A broken channel does not break the prediction."""

    code = "RT320"
    severity = WARN
    requires = ("RT301",)
    after = "channels"
    cause = "NaN spreads through any sum; a flat channel has a standard deviation of zero."
    cure = "torch.nan_to_num on the input, and a small constant where you divide."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for event in events(case, "channels"):
            for kind, found in event["kinds"].items():
                if not found["finite"] and kind != "nan channel":
                    gives = found.get("error") or f"gives {_few(found['values'])}"
                    yield Finding(message=f"{kind}: {gives}", challenge=event["challenge"])


class AnyDevice(Rule):
    """No tensor is made on a device of its own."""

    code = "RT321"
    severity = WARN
    requires = ("RT301",)
    after = "device"
    cause = "Tensors made in forward without device=, or a network that stays on the CPU."
    cure = "Make tensors with device=x.device, register constants with register_buffer, move the network to DEVICE."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for event in events(case, "device"):
            error = event.get("error")
            meets = error is not None and "not on the expected device" in error["text"]
            if not event["built"] and not meets:
                continue  # much that is right cannot be built without numbers
            if event.get("devices") == ["cpu"]:
                message = "the network stays on the CPU whatever DEVICE is: on a GPU scorer it would meet X on the GPU"
                yield Finding(message=message, challenge=event["challenge"])
            elif error and meets:
                other = "X on another device" if event["built"] else "the network on another device as it is built"
                message = f"a tensor on the CPU meets {other}{_code(error)}"
                yield Finding(message=message, where=where(error), challenge=event["challenge"])


def _code(error: dict[str, Any]) -> str:
    frame = error["frames"][-1] if error["frames"] else None
    return f" in `{frame['code']}`" if frame and frame["code"] else ""


class NewObject(Rule):
    """A second object, asked for its last challenge first, works like the first one."""

    code = "RT322"
    requires = ("RT301",)
    after = "forward"
    styles = ("getters",)
    cause = "One getter relies on what the other left behind; the scorer may make a new object for each."
    cure = "Let each getter build all it needs."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for event in case.drive.all("again") if case.drive is not None else []:
            if event.get("ok") is False:
                yield Finding(
                    message=f"on a new object: {shown(event['error'])}",
                    where=where(event["error"]),
                    challenge=event["challenge"],
                )


RULES: tuple[type[Rule], ...] = (
    HooksRun, WeightsLoaded, EvalReaches, Repeatable, Batches, Responds, Possible, BadChannels, AnyDevice, NewObject,
)  # fmt: skip
