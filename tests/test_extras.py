"""An optional package that is absent, one whose neighbour is, and one that cannot be loaded, are three things."""

import sys

import pytest

from rtserve.errors import EnvironmentMissingError
from rtserve.extras import extra_module


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "Lamp is not installed"),
        ({"lamp_x/__init__.py": ""}, "Lamp is not installed"),
        ({"lamp_x/__init__.py": "", "lamp_x/light.py": "import bulb_of_nobody"}, "bulb_of_nobody, which it imports, is not"),
        ({"lamp_x/__init__.py": "", "lamp_x/light.py": "raise OSError('libbulb.so')"}, "imported: OSError: libbulb.so"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(tmp_path, monkeypatch, files, said):
    monkeypatch.delitem(sys.modules, "lamp_x", raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EnvironmentMissingError, match=said) as caught:
        extra_module("lamp_x.light", title="Lamp", extra="lamp")
    assert 'pip install "rtserve[lamp]"' in caught.value.hint
