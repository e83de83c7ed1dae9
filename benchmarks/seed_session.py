"""The session this project began with, replayed right: every attempt on the same data, with one metric, with intervals.

    python benchmarks/seed_session.py [--windows N] [--epochs E] [--shared DIR] [-o FOLDER]

Simulated windows at planted r = 0 (nothing can be learned) and 0.46 (what the best team's score corresponds to), and
the real recordings beside the checkout where there are some. Interrupted, it goes on where it stopped. Results:
``results/seed_session.json``, ``.md`` and ``.html``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from session_attempts import SEEDS, attempts, comparisons, play
from session_real import contest_checkpoints, real_data

from rtserve.files import write_bytes
from rtserve.measure.results import environment
from rtserve.measure.signature import Signature
from rtserve.report.page import Page, Section, Table, environment_table, write_html, write_markdown

HERE = Path(__file__).resolve().parent
CANNOT = (
    "Simulated windows carry only what was planted in them: no figure here says how a network does on children's EEG.",
    "Each recipe was trained once per seed, V8 and the aggressive settings with one seed: a verdict is of these networks on"
    " other people. Trained again with other seeds or more windows, a difference as small as 0.01 may turn out otherwise.",
    "Whether mixup helps on the contest's data cannot be told from data that was made without it in mind.",
    "The contest's checkpoints were trained on windows that cannot be had offline; on simulated windows their score"
    " shows that they answer nearly a constant on volts, not what they would score in the contest.",
    "The session's recorded losses (0.0793 against 0.1608) were SmoothL1 and MSE: they cannot be subtracted, and with"
    " one metric the runs cannot be told apart.",
)

POWER = (
    "All differences of this table are corrected together (step-down max-T over the same swaps of people). The last but one"
    " column is the size of a true difference that at least 80 % of such studies find, by the verdict's own rule in this"
    " family. A question is decided where a difference is shown, or where one of {matters:g} NRMSE would have been found so"
    " often: it is under a fifth of what the best team gained over the constant."
)
FAMILY = (
    "Verdicts are against the constant, by the one rule of every command, and corrected for each other by Holm's rule: the"
    " family is all rows of this table. An interval is its row's alone."
)


@click.command()
@click.option("--windows", "n_windows", default=8000, show_default=True, type=click.IntRange(200))
@click.option("--epochs", default=8, show_default=True, type=click.IntRange(1))
@click.option("--real-epochs", default=30, show_default=True, type=click.IntRange(2))
@click.option("--members", default=5, show_default=True, type=click.IntRange(2, 5))
@click.option(
    "--shared", type=click.Path(path_type=Path), default=HERE.parent.parent / "shared", help="Real recordings."
)
@click.option("--work", type=click.Path(path_type=Path), default=HERE.parent / ".session-cache", help="Training runs.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=HERE / "results")
def main(n_windows: int, epochs: int, real_epochs: int, members: int, shared: Path, work: Path, output: Path) -> None:
    """Replay the session and write its report."""

    def tell(text: str) -> None:
        click.echo(text, err=True)

    size = {"n_windows": n_windows, "epochs": epochs, "seeds": SEEDS[:members], "tell": tell}
    folder = work / f"{n_windows}x{epochs}"
    benches = [play(r, folder=folder, **size) for r in (0.0, 0.46)]
    there = (shared / "data").is_dir()
    result = {
        "schema": "rtserve.seed_session/1",
        "simulated": True,
        "settings": {"windows": n_windows, "epochs": epochs, "members": members, "real_epochs": real_epochs},
        "attempts": attempts(benches),
        "comparisons": comparisons(benches),
        "real": real_data(shared, epochs=real_epochs, tell=tell) if there else [],
        "checkpoints": contest_checkpoints(shared, benches[1].test) if there else [],
        "cannot_tell": list(CANNOT),
        "environment": environment(threads=1),
    }
    write_bytes(output / "seed_session.json", (json.dumps(result, indent=1) + "\n").encode(), force=True)
    page = make_page(result)
    write_html(page, output / "seed_session.html", force=True)
    write_markdown(page, output / "seed_session.md", force=True)
    tell(f"wrote {output / 'seed_session.md'}")


def make_page(result: dict[str, Any]) -> Page:
    """Return the report of a replay."""
    settings = result["settings"]
    n_test = Signature.parse(result["attempts"][0]["signature"]).n
    sections = [
        Section(title="Attempts", tables=(Table.of([attempt(row) for row in result["attempts"]]),), text=(FAMILY,)),
        Section(
            title="The session's seven questions",
            tables=(Table.of([*(claim(c) for c in result["comparisons"]), *map(refused, _refused(result))]),),
            text=(POWER.format(matters=result["comparisons"][0]["matters"]),),
        ),
    ]
    if result["real"]:
        controls = Table.of([control(row) for row in result["real"]])
        sections.append(Section(title="Real recordings", tables=(controls,), text=(FAMILY,)))
        sections.append(
            Section(
                title="The contest's six CompactRT checkpoints on one set of simulated windows",
                tables=(Table.of([checkpoint(row) for row in result["checkpoints"]]),),
                text=(FAMILY,),
                notes=tuple(sorted({note for row in result["checkpoints"] for note in row["notes"]})),
            )
        )
    sections.append(Section(title="What the data cannot tell", text=CANNOT))
    sections.append(Section(title="Environment", tables=(environment_table(result["environment"]),), folded=True))
    lead = (
        f"Every attempt was trained on the same simulated windows ({settings['windows']} at each planted r,"
        f" {settings['epochs']} epochs, split by subject) and scored on the same held-out subjects ({n_test} windows)"
        " with one metric.",
        "At r = 0 the windows say nothing about the target: no honest attempt can do better than the constant there.",
    )
    return Page(title="The seed session, replayed", lead=lead, sections=tuple(sections))


def ends(interval: list[float] | None) -> str:
    """Return an interval as text."""
    return f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""


def number(value: float | None, digits: int = 3) -> str:
    """Return a number as text, or nothing."""
    return "" if value is None else f"{value:.{digits}f}"


def attempt(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the attempts table."""
    return {
        "version": row["version"],
        "planted r": f"{row['planted_r']:g}",
        "architecture": row["architecture"],
        "loss": row.get("loss", ""),
        "NRMSE": number(row.get("nrmse")),
        "95 % interval": ends(row.get("interval")),
        "constant": number(row.get("constant")),
        "MSE": number(row.get("mse"), 4),
        "SmoothL1": number(row.get("smooth_l1"), 4),
        "verdict": "; ".join(text for text in (row["verdict"], row.get("note", "")) if text),
        "p, corrected": p_text(row),
    }


def p_text(row: dict[str, Any]) -> str:
    """Return the raw p and the corrected one, or nothing."""
    return f"{row['p']:.3g}, {row['p_corrected']:.3g}" if row.get("p_corrected") is not None else ""


def claim(found: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the comparisons table."""
    return {
        "question": found["question"],
        "planted r": f"{found['planted_r']:g}",
        "from": found["first_name"],
        "to": found["second_name"],
        "verdict": found["sentence"],
        "80 % find at least": number(found["detectable"], 4),
        "decided": "yes" if found["decided"] else "no",
    }


def _refused(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in result["attempts"] if row["version"] == "wrong architecture"]


def refused(row: dict[str, Any]) -> dict[str, Any]:
    """Return the question that needs no statistics: what is not the same network is refused before it is trained."""
    said = str(row["verdict"])
    return {
        "question": "did the wrong architecture cost 48 minutes?",
        "planted r": f"{row['planted_r']:g}",
        "verdict": said,
        "80 % find at least": "certain: no chance in it",
        "decided": "yes" if said.startswith("refused") else "no",
    }


def control(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the real recordings' table."""
    interval = f"{ends(row['interval'])} over {row['over']}" if row["interval"] else ""
    return {
        "data": row["data"],
        "model": row["model"],
        "NRMSE": number(row["nrmse"]),
        "95 % interval": interval,
        "constant": number(row["constant"]),
        "verdict": row["verdict"],
        "p, corrected": p_text(row),
        "known before": row["known"],
        "note": row["note"],
    }


def checkpoint(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the checkpoints' table."""
    return {
        "checkpoint": row["checkpoint"],
        "NRMSE": number(row["nrmse"], 4),
        "constant": number(row["constant"]),
        "MSE": number(row["mse"], 4),
        "SmoothL1": number(row["smooth_l1"], 4),
        "mean answer, s": number(row["mean"]),
        "std of answers, s": number(row["std"], 5),
        "verdict": row["verdict"],
        "p, corrected": p_text(row),
    }


if __name__ == "__main__":
    main()
