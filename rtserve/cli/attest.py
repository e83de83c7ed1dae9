"""``rtserve attest`` and ``rtserve replay``: what a zip scores, stated so that anybody can recompute it."""

from __future__ import annotations

from pathlib import Path

import click

from rtserve.cli.output import conclude, emit_json, json_option, working

__all__ = ["attest", "replay"]


@click.command()
@click.argument("zip_path", metavar="ZIP", type=click.Path(path_type=Path))
@click.option("--data", multiple=True, type=click.Path(path_type=Path), help="Window set to score ZIP on; repeatable.")
@click.option("--metric", "metrics", multiple=True, help="As `rtserve evaluate` takes it; repeatable.")
@click.option("--split", help="Only the windows marked so, as of `rtserve evaluate`.")
@click.option("--profile", metavar="NAME[/CHALLENGE]", help="Contest; by default what ZIP's manifest names.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help=".bundle; .json: without ZIP.")
@click.option(
    "--sign-key", type=click.Path(path_type=Path), metavar="PRIVATE.pem", help="Sign by OpenSSF model-signing."
)
@click.option("--force", is_flag=True, help="Replace an existing output.")
@json_option
def attest(
    zip_path: Path,
    data: tuple[Path, ...],
    metrics: tuple[str, ...],
    split: str | None,
    profile: str | None,
    output: Path,
    sign_key: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write an in-toto statement about ZIP: its digest, the graphs inside, and what it scores on --data."""
    from rtserve.submission.attestation.attest import attest as attest_zip

    with working("scoring", quiet=as_json):
        found = attest_zip(
            zip_path, data=data, output=output, metrics=metrics, split=split, profile=profile, sign_key=sign_key, force=force
        )  # fmt: skip
    conclude("\n".join(found.lines()), as_json=as_json)
    if as_json:
        emit_json("attest", found.to_dict())


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--data", multiple=True, type=click.Path(path_type=Path), help="Window set, if it is elsewhere; repeatable."
)
@click.option("--verify-key", type=click.Path(path_type=Path), metavar="PUBLIC.pem", help="Verify the signature first.")
@click.option("--signature", type=click.Path(path_type=Path), help="The signature (default: BUNDLE.sig).")
@json_option
@click.pass_context
def replay(
    ctx: click.Context,
    bundle: Path,
    data: tuple[Path, ...],
    verify_key: Path | None,
    signature: Path | None,
    as_json: bool,
) -> None:
    """Recompute every digest and every score that BUNDLE states; a score has to agree within 1e-6."""
    from rtserve.submission.attestation.replay import replay as replay_bundle

    with working("scoring", quiet=as_json):
        found = replay_bundle(bundle, data=data, verify_key=verify_key, signature=signature)
    conclude("\n".join(found.lines()), as_json=as_json)
    if as_json:
        emit_json("replay", found.to_dict())
    ctx.exit(0 if found.passed else 1)
