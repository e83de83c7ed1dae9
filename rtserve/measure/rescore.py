"""Scoring one side of a comparison in a process of its own, so that no import of one side can shadow the other's.

``python -m rtserve.measure.rescore SIDE DATA OUT JOB`` is that process; `rescore` starts it and reads what it wrote. A
graph imports nothing, so it is scored in the process that asks: to start another takes longer than most scores.
"""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rtserve.errors import InputError, RtserveError
from rtserve.files import read_json
from rtserve.graphs.foreign import is_checkpoint
from rtserve.graphs.graph import Graph
from rtserve.measure.bundled import read_bundled
from rtserve.measure.predict import Progress
from rtserve.measure.results import save_result
from rtserve.measure.side_records import fitting
from rtserve.measure.sides import Side, read_side
from rtserve.signals.windows import Stated, WindowSet, load_windows
from rtserve.threads import require_wanted

__all__ = ["rescore", "side_graph"]

_NOTHING = Stated()
DEFAULT_EXPORTER = "rtserve.training.networks:exporter"
"""CompactRT's; any other architecture names its own."""
EVERY_S, GRACE_S = 0.02, 5.0
"""Seconds between two looks at the process, and until it is killed that was asked to end."""
DONE = re.compile(r"^windows (\d+) of (\d+)\n", re.MULTILINE)
"""How the process says how far it is, on a line of its stdout."""


def rescore(
    side: Side,
    data: str | Path,
    *,
    split: str | None = None,
    exporter: str | None = None,
    stated: Stated = _NOTHING,
    progress: Progress | None = None,
    **settings: Any,
) -> Side:
    """Return the side's evaluation on `data`, made in a child process where it is more than a graph.

    Parameters
    ----------
    side : Side
        A run, checkpoint, graph or zip.
    data : path
        Window set.
    split : str, optional
        Part of it; see `evaluate`.
    exporter : str, optional
        Of a checkpoint's architecture; CompactRT's by default.
    stated : Stated
        What the window set does not say.
    progress : callable, optional
        Called with (windows done, windows in all).
    **settings
        Further choices of `evaluate` that JSON can carry (engine, metrics, beside).

    Returns
    -------
    Side
        A result with raw predictions, named as `side` is.

    Raises
    ------
    RtserveError
        What was met there.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, asked = Path(folder) / "result.json", Path(folder) / "job.json"
        job = {"split": split, "exporter": exporter, "stated": dataclasses.asdict(stated), "options": settings}
        asked.write_text(json.dumps(job), "utf-8")
        arguments = [str(side.path), str(data), str(out), str(asked)]
        if side.path.suffix == ".onnx":
            main(arguments, progress=progress)
        else:
            _in_child(arguments, out, side.name, progress)
        document = json.loads(out.read_bytes())
        if document["schema"] == "rtserve.error/1":
            kind = InputError if document["exit_code"] == 2 else RtserveError
            raise kind(f"{side.name}: {document['message']}", hint=document["hint"])
        return read_side(out)


def _in_child(arguments: Sequence[str], out: Path, name: str, progress: Progress | None) -> None:
    """Run `main` in a process of its own; raise `RtserveError` where it leaves nothing at `out`."""
    command = [sys.executable, "-m", "rtserve.measure.rescore", *arguments]
    told, said = out.with_name("told.txt"), out.with_name("said.txt")
    with (
        open(told, "wb") as stdout,
        open(said, "wb") as stderr,
        subprocess.Popen(command, stdout=stdout, stderr=stderr) as child,
    ):
        before: tuple[int, int] | None = None
        try:
            while child.poll() is None:
                require_wanted()
                time.sleep(EVERY_S)
                if (now := _last_told(told)) != before and now and progress:
                    progress(*now)
                before = now
        except BaseException:
            _end(child)
            raise
    if (now := _last_told(told)) != before and now and progress:
        progress(*now)
    last = (said.read_text("utf-8", errors="replace").strip().splitlines() or ["no output"])[-1]
    if not out.exists():
        raise RtserveError(f"scoring {name} ended with {child.returncode}: {last}", hint="score it alone to see")


def _last_told(path: Path) -> tuple[int, int] | None:
    """Return how far the process said last that it is, of lines that are whole."""
    found = DONE.findall(path.read_text("utf-8", errors="replace"))
    return (int(found[-1][0]), int(found[-1][1])) if found else None


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a process as Ctrl-C does, with what it has started; at once where it does not hear."""
    child.send_signal(signal.SIGINT)
    try:
        child.wait(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()


def side_graph(path: Path, *, exporter: str | None = None, target: str = "") -> Graph:
    """Return the graph a side stands for: its own, its checkpoint exported, the mean of a run's seeds.

    Raises
    ------
    InputError
        Where there is none, e.g. a zip that was not built here.
    """
    if path.is_dir():
        files = sorted(path.glob("best.pth")) or sorted(path.glob("seed*/best.pth"))
        graphs = [side_graph(file, exporter=exporter) for file in files]
        if len(graphs) == 1:
            return graphs[0]
        from rtserve.fusion.fuse import fuse

        return fuse(graphs)
    if is_checkpoint(path):
        from rtserve.graphs.export import export

        return export(path, exporter=exporter or DEFAULT_EXPORTER)
    if path.suffix == ".zip":
        return _zip_graph(path, target)
    return Graph.load(path)


def _zip_graph(path: Path, target: str) -> Graph:
    """Return the graph of a bundle whose target is that of the data; the only one where it has one."""
    graphs = list(read_bundled(path).graphs.values())
    if not graphs:
        raise InputError(
            f"{path.name} holds no graph that its manifest names: it was not built by rtserve",
            hint="`rtserve check` drives any zip; to score it here give the graph or checkpoint it was made from",
        )
    return fitting(graphs, target)[0]


def main(argv: Sequence[str], *, progress: Progress | None = None) -> int:
    """Score one side and write the result, or the error, to the file named; tell `progress` of windows."""
    path, data, out, job = Path(argv[0]), argv[1], argv[2], read_json(argv[3], "job", hint="start it with `rescore`")
    from rtserve.measure.evaluate import evaluate

    try:
        stated = Stated(**job["stated"] | {"classes": tuple(job["stated"]["classes"])})
        windows: WindowSet = load_windows(data, stated=stated)
        graph = side_graph(path, exporter=job["exporter"], target=windows.target)
        evaluate(graph, windows, split=job["split"], name=path.name, progress=progress, **job["options"]).save(out)
    except RtserveError as error:
        save_result(out, "error", {"message": error.message, "hint": error.hint, "exit_code": error.exit_code})
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], progress=lambda done, total: print(f"windows {done} of {total}", flush=True)))
