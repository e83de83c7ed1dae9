"""Every tutorial runs whole, and its page is the script with what it printed.

`make docs` runs them and fails with one that fails; what a run printed is kept for as long as no source changes. .ci/run
makes the site first, so that the tests find each run there, and the whole path that they are is not gone twice. Where the
site was not made of this source, the test says so and is skipped, but for what needs a tool: .ci/run tries that once more
when it has the tools.
"""

import contextlib

import pytest

from docs.generate import cells, tutorials
from tests.conftest import ROOT

ALL = [*tutorials.scripts(ROOT), cells.read(ROOT / "docs" / "generate" / "documents.sh")]


def marked(one):
    tools = any(kind == "command" for kind, _ in one.needs)
    return pytest.param(one, id=one.name, marks=[pytest.mark.tools] if tools else [])


@pytest.fixture(scope="module")
def first():
    """A folder with a warm rtserve, made for the first tutorial that is due."""
    with contextlib.ExitStack() as stack:
        made = []

        def get():
            if not made:
                made.append(stack.enter_context(tutorials.warm()))
            return made[0]

        yield get


@pytest.mark.parametrize("one", [marked(one) for one in ALL])
def test_it_runs_from_its_first_cell_to_its_last(one, first):
    if one.missing:
        pytest.skip(one.missing)
    kept = tutorials.kept_at(one, ROOT).is_file()
    if not kept and not any(kind == "command" for kind, _ in one.needs):
        pytest.skip("not run on this source yet: make docs runs it")
    printed = tutorials.outcome(one, ROOT, None if kept else first())
    assert len(printed) == len(one.cells)
    assert any(printed)
    page = tutorials.page(one, printed)
    assert page.startswith(f"# {one.title}\n")
    for cell in one.cells:
        assert cell.prose in page
        assert cell.code in page


def test_the_order_names_scripts_that_exist():
    assert set(tutorials.FIRST) == {one.name for one in ALL[: len(tutorials.FIRST)]}


def script(folder, name, text):
    (folder / name).write_text(text)
    return cells.read(folder / name)


def test_what_a_cell_prints_stands_under_it(tmp_path):
    one = script(
        tmp_path,
        "t.py",
        '"""Title\n\nOpening.\n"""\n\n# %%\n# First.\nx = 1\nprint("a")\nx\n\n# %%\n# Second.\nx + 1\n',
    )
    assert (one.title, one.opening, [cell.prose for cell in one.cells]) == ("Title", "Opening.", ["First.", "Second."])
    printed = cells.run(one, ROOT)
    assert printed == ["a\n1", "2"]
    page = tutorials.page(one, printed)
    assert (
        page.index("First.") < page.index("```text\na\n1\n```") < page.index("Second.") < page.index("```text\n2\n```")
    )


def test_a_shell_script_is_one_program(tmp_path):
    one = script(
        tmp_path,
        "t.sh",
        "# Title\n#\n# Opening.\n\n# %%\n# First.\nx=1\necho a >&2\n\n# %%\necho $x; ls -d exporters\n",
    )
    assert cells.run(one, ROOT) == ["a", "1\nexporters"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.sh", "# T\n\n# %%\ntrue\n\n# %%\necho seen; false | true\necho on\n\n# %%\necho end\n"),
        ("t.py", '"""T\n"""\n\n# %%\nx = 1\n\n# %%\nprint("seen"); x / 0\n\n# %%\nprint("end")\n'),
    ],
)
def test_one_that_fails_is_an_error_with_the_cell_and_what_it_printed(tmp_path, name, text):
    with pytest.raises(
        cells.TutorialError, match=r"(?s)ended with 1 in\n.*(false|x / 0).*which printed\nseen"
    ) as caught:
        cells.run(script(tmp_path, name, text), ROOT)
    assert "end\n" not in str(caught.value).partition("which printed")[2]


def test_what_is_missing_is_the_reason_on_the_page(tmp_path):
    one = script(
        tmp_path, "t.sh", "# T\n#\n# needs: module lamp_of_nobody\n# needs: command lamp-of-nobody\n\n# %%\necho a\n"
    )
    assert one.missing == "lamp_of_nobody is not installed; there is no lamp-of-nobody here"
    page = tutorials.page(one, None)
    assert one.missing in page
    assert "needs:" not in page
    assert "echo a" in page


@pytest.mark.parametrize("text", ["# %%\necho a\n", "# Title\n"])
def test_a_script_without_a_title_or_a_cell_is_none(tmp_path, text):
    with pytest.raises(cells.TutorialError, match="no title or no cell"):
        script(tmp_path, "t.sh", text)
