"""The reference is made from the source: every command, rule, pass, exit code, profile and verb has its entry."""

import re
from pathlib import PurePosixPath

import click
import pytest

import rtserve
from docs.generate import contracts, documents, fields, outcomes, python, results
from docs.generate.commands import command_pages, walk
from docs.generate.passes import passes_page
from docs.generate.rules import rules_page
from docs.generate.tree import REFERENCE_ORDER, generated, written
from rtserve import errors
from rtserve.cli.commands import entries
from rtserve.cli.main import cli
from rtserve.fusion.run.order import PASSES
from rtserve.submission.checks.catalogue import all_rules
from rtserve.submission.profile import Profile, load_profile, profile_names
from rtserve.submission.recipe import Recipe


@pytest.fixture(scope="module")
def commands():
    return "\n".join(command_pages().values())


def test_every_command_has_its_usage_its_options_and_its_examples(commands):
    root = click.Context(cli, info_name="rtserve")
    found = [one for name in entries() for one in walk(name, root)]
    assert len(found) > len(entries())  # those under env and profiles
    for path, command, context in found:
        _, mark, section = commands.partition(f"## {path}\n")
        assert mark, path
        section = re.split(r"(?m)^## ", section)[0]
        for parameter in command.get_params(context):
            own = not {"--help", "--quiet"} & set(parameter.opts)  # those that every command has are said once
            if isinstance(parameter, click.Option) and own and not parameter.hidden:
                assert parameter.opts[-1] in section, (path, parameter.name)
    assert all(f"`--{name}`" in commands for name in ("help", "quiet"))
    assert [line for entry in entries().values() for line in entry.examples if line not in commands] == []


def test_every_rule_has_its_sentence_its_cause_and_its_cure():
    page = rules_page()
    assert page.count("**Cause.**") == page.count("**Cure.**") == len(all_rules())
    for rule in all_rules():
        assert f"\n### {rule.code} {rule.name}\n" in page
    for anchor in re.findall(r"\]\(#([^)]+)\)", page):
        assert f"\n### {anchor.partition('-')[0].upper()} {anchor.partition('-')[2]}\n" in page


def test_every_pass_has_what_its_module_says():
    page = passes_page()
    places = [page.index(f"\n{one.name}\n{'-' * len(one.name)}\n") for one in PASSES]
    assert places == sorted(places)
    assert page.count(".. math::") > 5
    assert "(``rtserve.graphs.fold``)" in page  # where the mathematics of a pass lies elsewhere, it is there as well


def test_every_exit_code_is_there_with_the_errors_that_end_so():
    codes = outcomes.exit_codes()
    kinds = [getattr(errors, name) for name in errors.__all__]
    assert {kind.exit_code for kind in kinds} | {0, 130, 141} == set(codes)
    rows = [line.split("|") for line in outcomes.outcomes_page().splitlines() if re.match(r"\| \d", line)]
    shown = {int(row[1]): set(re.findall(r"`(\w+)`", row[3])) for row in rows}
    assert shown == {code: {kind.__name__ for kind in kinds if kind.exit_code == code} for code in codes}


def test_every_profile_has_its_clauses_with_their_sources():
    pages = contracts.contract_pages()
    for name in profile_names():
        page, profile = pages[f"profile-{name}"], load_profile(name)
        assert page.count("*Source: ") == len(profile.clauses)
        assert page.count("**What the check does:**") == len(profile.contradictions)
        assert [one.key for one in profile.challenges if f"`{name}/{one.key}`" not in page] == []


@pytest.mark.parametrize("kind", [Recipe, Profile])
def test_every_key_of_a_table_is_described(kind):
    page = fields.schema(kind)
    for table in fields.tables_below(kind):
        section = page.partition(f"## {table.__name__}\n")[2].partition("\n## ")[0]
        assert [name for name in table.__dataclass_fields__ if f"\n`{name}`\n: " not in section] == []
    said = fields.described(Recipe)
    assert said["sfreq"] == said["unit"]
    assert "Hz" in said["unit"]


def test_the_verbs_and_what_they_give_are_there():
    page = python.python_page()
    public = {one.__name__ for one in python.classes()} & set(rtserve.__all__)
    assert set(python.verbs()) | public == set(rtserve.__all__) - {"__version__"}
    assert [name for name in python.verbs() if f".. autofunction:: rtserve.{name}\n" not in page] == []
    names = {one.__name__ for one in python.classes()}
    assert {"Graph", "WindowSet", "Evaluation", "BenchReport", "Built", "ValidationReport", "Verification"} <= names


def test_every_kind_of_document_has_its_command(repo_dir):
    found = documents.kinds(repo_dir)
    assert {"fuse", "evaluation", "overall", "check", "env.try"} <= set(found)
    root = click.Context(cli, info_name="rtserve")
    paths = {path.removeprefix("rtserve ") for name in entries() for path, *_ in walk(name, root)}
    assert {command for commands in found.values() for command in commands} <= paths
    text = "".join(path.read_text() for path in (repo_dir / "rtserve" / "cli").glob("*.py"))
    assert text.count("emit_json(") - 1 == len(re.findall(r"emit_json\(\n? *\"", text))  # a kind is a text at the call


def test_the_shape_of_a_document_is_its_keys_and_their_types():
    document = {"a": [{"b": 1}, {"b": None, "c": [1.5, 2.5]}], "d": {"e": True}, "f": []}
    assert documents.shape(document) == [
        "a: array of object", "  b: integer", "  c: array of number", "d: object", "  e: boolean", "f: array of nothing here"
    ]  # fmt: skip


def test_every_record_and_every_page_of_docs_is_in_the_site(repo_dir):
    pages = written(repo_dir)
    for path in [*(repo_dir / "docs").glob("*.md"), *(repo_dir / results.RECORDS).glob("*.md")]:
        assert PurePosixPath(path.relative_to(repo_dir)) in pages
    made = generated(repo_dir)
    menus = {place: re.findall(r"(?m)^[\w-]+$", text) for place, text in made.items() if place.name == "index.md"}
    for place, listed in menus.items():
        beside = {p.stem for p in {*pages.values(), *made} if p.parent == place.parent} - {"index"}
        beside |= {"documents"} if place.parent.name == "reference" else set()  # its page takes a run
        below = {name for name in beside if re.match(r"(commands|profile)-", name)}
        assert beside - below <= set(listed), place
    assert set(REFERENCE_ORDER) - {"documents"} <= {place.stem for place in made}
