"""What says beside pyproject.toml what it says (CITATION.cff, the conda recipe, the licences) cannot fall behind it."""

import json
import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import rtserve
from docs.generate import licences
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
RECIPE = yaml.safe_load((ROOT / "packaging" / "conda" / "recipe.yaml").read_text("utf-8"))
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base", "mne": "mne-base"}
"""What conda-forge calls otherwise; the two last are the packages without what they draw windows with."""


def test_the_citation_is_of_this_version_and_of_no_one_who_does_not_exist():
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert told["cff-version"] == "1.2.0"
    assert (told["title"], told["type"], told["version"]) == (PROJECT["name"], "software", rtserve.__version__)
    assert (told["license"], told["keywords"]) == (PROJECT["license"], PROJECT["keywords"])
    owner = re.search(r"Copyright \(c\) \d+ (.+)", (ROOT / "LICENSE").read_text("utf-8"))
    assert told["authors"] == [{"name": owner[1]}]
    assert {"message", "abstract"} <= set(told)


def test_the_conda_recipe_requires_what_pyproject_requires():
    asked = {CONDA.get(one.name, one.name): str(one.specifier) for one in map(Requirement, PROJECT["dependencies"])}
    run = [line.partition(" ") for line in RECIPE["requirements"]["run"]]
    listed = {name: ",".join(sorted(bounds.split(","), reverse=True)) for name, _, bounds in run}
    python = listed.pop("python")
    assert listed == {name: ",".join(sorted(bounds.split(","), reverse=True)) for name, bounds in asked.items()}
    least = PROJECT["requires-python"].removeprefix(">=")
    assert (RECIPE["context"]["python_min"], python) == (least, ">=${{ python_min }}")


def test_the_conda_recipe_makes_the_same_commands_of_the_same_version():
    assert RECIPE["context"]["version"] == rtserve.__version__
    assert RECIPE["package"]["name"] == PROJECT["name"]
    assert RECIPE["build"]["python"]["entry_points"] == [f"{k} = {v}" for k, v in PROJECT["scripts"].items()]
    assert RECIPE["about"]["summary"] == PROJECT["description"]
    assert (RECIPE["about"]["license"], [RECIPE["about"]["license_file"]]) == (
        PROJECT["license"],
        PROJECT["license-files"],
    )
    system = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"]["requires"]
    assert {line.replace(" ", "") for line in RECIPE["requirements"]["host"]} >= set(system)
    assert (ROOT / "packaging" / "conda" / RECIPE["source"]["path"]).samefile(ROOT)


def test_the_classifiers_name_the_pythons_that_were_tried():
    minors = {line.rpartition(" :: ")[2] for line in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", line)}
    rows = json.loads((ROOT / "benchmarks" / "results" / "installs.json").read_text("utf-8"))["rows"]
    assert minors == {row["python"].rpartition(".")[0] for row in rows}
    assert min(minors) == PROJECT["requires-python"].removeprefix(">=")
    assert "Typing :: Typed" in PROJECT["classifiers"]
    assert [line for line in PROJECT["classifiers"] if line.startswith("License")] == []  # the expression says it


@pytest.fixture(scope="module")
def page():
    return licences.licences_page(ROOT)


def test_every_requirement_is_on_the_page_of_licences_with_its_own(page):
    needed, extras = licences.project(ROOT)
    for text in [*needed, *(one for asked in extras.values() for one in asked)]:
        name = canonicalize_name(Requirement(text).name)
        row = re.search(rf"^\| (?:\*\*)?`{name}`(?:\*\*)? \| (.+?) \| (.+?) \|$", page, re.MULTILINE)
        assert row, name
        assert licences.UNSAID not in row[2]
    assert set(re.findall(r"^## With the extra `(\w+)`", page, re.MULTILINE)) == set(extras)


def test_nothing_that_rtserve_brings_is_under_a_licence_that_binds_what_uses_it(page):
    core = licences.brought(licences.project(ROOT)[0])
    assert {"torch", "numpy", "certifi"} <= set(core)  # the last is asked for by others alone
    assert (core["torch"], core["certifi"]) == (True, False)
    found = {name: licences.licence(name) for name in core}
    assert {name: said for name, said in found.items() if re.search(r"\b[AL]?GPL|General Public", said)} == {}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["License-Expression: MIT", "License: other"], "MIT"),
        (["License: MPL-2.0 AND MIT"], "MPL-2.0 AND MIT"),
        (["License: Copyright (c) 2015, someone", "Classifier: License :: OSI Approved :: BSD License"], "BSD License"),
        (["Classifier: License :: OSI Approved", "License: BSD (3-clause)"], "BSD (3-clause)"),
        (["Classifier: License :: OSI Approved"], licences.UNSAID),
        ([f"License: {'long ' * 20}"], licences.UNSAID),
    ],
)
def test_a_licence_is_read_as_packages_write_it(tmp_path, monkeypatch, lines, said):
    folder = tmp_path / "lamp_x-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", "Name: lamp-x", "Version: 1", *lines]) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert licences.licence("lamp-x") == said
