"""What a contest's profile is made of besides its challenges: sentences with sources, windows, places, limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from rtserve.spec import InputSpec

__all__ = [
    "CONTAINER",
    "STYLES",
    "Clause",
    "Contradiction",
    "Entry",
    "Environment",
    "Kit",
    "KitTrack",
    "Layout",
    "Limits",
    "Period",
    "Phase",
    "Signal",
    "Windows",
]

CONTAINER = "container"
STYLES = ("getters", "solver", CONTAINER)
"""How a contest reaches the network; see `Entry.style`."""


@dataclass(frozen=True, kw_only=True)
class Clause:
    """One sentence of the contract, its source, and how sure it is (certain, high, medium, low, unknown)."""

    id: str
    text: str
    source: str
    confidence: str


@dataclass(frozen=True, kw_only=True)
class Contradiction:
    """Two sources that disagree: both readings, and what the check does to be right under both."""

    clause: str
    readings: tuple[str, ...]
    handling: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """How the scorer reaches the network.

    Parameters
    ----------
    file : str
        The script at the root of the zip, or the Dockerfile.
    style : str
        ``"getters"``: one getter per challenge, the network called through ``forward``; ``"solver"``: one
        ``load_model(meta)``, the network called through ``predict``; ``"container"``: an image whose command reads a
        recording and writes a table, see `rtserve.submission.container_parts.Container`.
    class_name : str
        The class it imports; empty of a container.
    upload : str
        What is done with a zip that passed; ``{path}`` stands for its file.
    base : str
        Name of the class that the entry class derives from, or empty.
    method : str
        What is called on the returned object.
    requires : tuple of str
        Methods the returned object must have.
    single_file : bool
        Whether other Python files in the zip cannot be imported.
    every_script : bool
        Whether the scorer runs every Python file at the root for itself, from no folder of the zip on its path, and the
        one that holds the entry class from a copy that lies elsewhere: ``__file__`` is then not beside the weights.
    """

    file: str
    style: str
    class_name: str = ""
    upload: str = "upload {path}"
    base: str = ""
    method: str = "forward"
    requires: tuple[str, ...] = ("eval", "forward")
    single_file: bool = False
    every_script: bool = False


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How many windows a challenge scores: best figure, bounds, and where they come from."""

    count: int
    low: int
    high: int
    source: str


@dataclass(frozen=True, kw_only=True)
class Signal:
    """The windows that a network is given.

    Parameters
    ----------
    n_chans, n_times, sfreq : int, int, float
        Channels, samples, Hz.
    unit : str
        As the contest gives it; empty where it does not say.
    scale : float
        Standard deviation of the windows in that unit.
    scales : tuple of float
        Standard deviations that are plausible where the contest does not state the unit; all are drilled.
    assumed : bool
        Whether the sizes are no more than a guess: what may fail because of them is not judged.
    ch_names : tuple of str
        The channels in their order; empty where the contest does not say.
    """

    n_chans: int
    n_times: int
    sfreq: float
    unit: str = "V"
    scale: float = 1e-5
    scales: tuple[float, ...] = ()
    assumed: bool = False
    ch_names: tuple[str, ...] = ()

    def __str__(self) -> str:
        unit = f" in {self.unit}" if self.unit else ", unit not stated"
        return f"{self.n_chans} channels x {self.n_times} samples at {self.sfreq:g} Hz{unit}"

    @property
    def spec(self) -> InputSpec:
        """The windows as `InputSpec`."""
        return InputSpec(n_chans=self.n_chans, n_times=self.n_times, sfreq=self.sfreq, unit=self.unit or None)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What another phase of a contest gives a challenge instead."""

    signal: Signal | None = None
    meta: dict[str, int] = field(default_factory=dict)
    possible: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Period:
    """When a phase takes uploads, how many, and which of them count.

    Parameters
    ----------
    phase : str
        One of the profile's phases.
    opens, closes : str
        First and last day, as in 2026-10-28.
    daily, total : int
        Most uploads a day and in all; 0 where none is stated.
    counts : str
        Which of them is ranked, and what else a team has to know.
    source : str
        Where that is from.
    """

    phase: str
    opens: str
    closes: str
    daily: int = 0
    total: int = 0
    counts: str = ""
    source: str

    def __str__(self) -> str:
        total = f", {self.total} in all" if self.total else ""
        counts = f"; {self.counts}" if self.counts else ""
        return (
            f"{self.phase}: {self.opens} to {self.closes}, {self.daily or 'any number of'} uploads a day{total}{counts}"
        )


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the scorer mounts the zip's files and which folder it runs in."""

    submission: str
    cwd: str
    wrong: tuple[str, ...] = ()
    right: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Kit:
    """How the contest's own kit is run, where the organisers publish one.

    Parameters
    ----------
    ingestion : str
        Its program, in the checkout; called with ``--submission-dir``, ``--output-dir``, ``--input-data`` and
        ``--benchmark-dir`` as the platform does.
    config : str
        What it reads as ``config.yaml`` in the folder of ``--input-data``; ``{dataset}`` stands for the track's.
    source : str
        Where that is from.
    environment : dict of str to str
        Variables that it is run with.
    """

    ingestion: str
    config: str
    source: str
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class KitTrack:
    """A challenge in the contest's kit: the folder of its benchmark, and its simulated windows of the contest's size.

    In `dataset` the names of the signal (``{n_chans}``, ``{n_times}``, ``{sfreq}``) and of the challenge's meta stand for
    their values.
    """

    benchmark: str = ""
    dataset: str = ""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A set of pinned packages that the scorer may have.

    `required` says whether a failure there is one, `assumed` that no source states the versions: they are what was
    published when the contest built its image, to try a zip in, and no failure is blamed on another version.
    """

    name: str
    python: str
    packages: dict[str, str]
    required: bool = True
    assumed: bool = False

    @property
    def pins(self) -> dict[str, str]:
        """The versions that the contest is known to have."""
        return {} if self.assumed else self.packages


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Known limits; 0 where there is none or none is known. `seen_seconds` is the longest run known to be accepted."""

    seconds: float = 0.0
    seen_seconds: float = 0.0
    seconds_source: str = ""
    archive_bytes: int = 0
    archive_source: str = ""
