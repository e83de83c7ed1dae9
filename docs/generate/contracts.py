"""Pages of what files ask for: recipes, profiles, and each contest that comes with rtserve."""

from __future__ import annotations

import inspect
from importlib import resources

from docs.generate.fields import schema
from docs.generate.markdown import code, definition, fence, plain, table
from rtserve.submission import recipe
from rtserve.submission.challenge import Challenge
from rtserve.submission.profile import Profile, load_profile, profile_names

__all__ = ["contract_pages"]


def contract_pages() -> dict[str, str]:
    """Return the pages of the reference by name: ``recipe``, ``profile``, and one for every contest."""
    names = profile_names()
    pages = {f"profile-{name}": _profile(load_profile(name)) for name in names}
    example, _, rest = inspect.cleandoc(recipe.__doc__ or "").partition("::\n\n")[2].partition("\n\nReading")
    pages["recipe"] = "\n".join(
        [
            "# Recipe: submission.toml\n",
            "`rtserve build` makes a zip of this file. An unknown key is refused and the nearest one named.\n",
            fence(inspect.cleandoc(example), "toml"),
            plain(f"Reading{rest}") + "\n",
            schema(recipe.Recipe, leaving_out=("folder",)),
        ]
    )
    menu = "\n".join(f"profile-{name}" for name in names)
    pages["profile"] = "\n".join(
        [
            "# Profile: a contest's contract\n",
            "A profile is data: every clause carries its source and how sure it is. [Contests](../howto/contests.md) writes "
            "one out. These come with rtserve:\n",
            *(definition(f"[`{name}`](profile-{name}.md)", plain(load_profile(name).title)) for name in names),
            fence(f":maxdepth: 1\n:hidden:\n\n{menu}", "{toctree}"),
            schema(Profile),
        ]
    )
    return pages


def _profile(profile: Profile) -> str:
    parts = [f"# {profile.name}: {plain(profile.title)}\n", "## What is asked\n", _challenges(profile), "## Clauses\n"]
    for clause in profile.clauses:
        said = f"{plain(clause.text)}. *Source: {plain(clause.source)}.*"
        parts.append(definition(f"{plain(clause.id)} ({plain(clause.confidence)})", said))
    if profile.contradictions:
        parts.append("## Where sources contradict each other\n")
        for one in profile.contradictions:
            readings = "; ".join(plain(reading) for reading in one.readings)
            parts.append(definition(plain(one.clause), f"{readings}. **What the check does:** {plain(one.handling)}."))
    parts.append("## Environments\n")
    for env in profile.environments:
        pins = ", ".join(f"{name} {version}" for name, version in env.packages.items())
        sure = "versions that no source states" if env.assumed else "pinned by the contest"
        parts.append(definition(f"{plain(env.name)}: Python {env.python}", f"{plain(pins) or 'no packages'} ({sure})"))
    text = (resources.files("rtserve.submission") / "profiles" / f"{profile.name}.toml").read_text("utf-8")
    return "\n".join([*parts, "## The file\n", fence(text, "toml")])


def _challenges(profile: Profile) -> str:
    head = ("challenge", "windows", "given", "answers", "ranked by", "depends on its batch")
    return table(head, [_challenge(profile, one) for one in profile.challenges])


def _challenge(profile: Profile, one: Challenge) -> tuple[str, ...]:
    given = "one at a time" if one.batch == 1 else f"in batches of {one.batch}"
    shape = " x ".join(one.output)
    verdict = {"fail": "fails", "warn": "is a warning", "allow": "is allowed"}[one.coupling]
    return (
        code(f"{profile.name}/{one.key}"),
        plain(str(profile.signal_of(one.key))),
        given + (", a copy for each stream" if one.streaming else ""),
        plain(f"{one.target}, {shape}"),
        code(one.metric) if one.metric else "not known",
        verdict,
    )
