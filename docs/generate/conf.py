"""Sphinx's settings. Everything that a page loads lies in the site itself."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())
sys.path.insert(0, str(ROOT))

import rtserve  # noqa: E402

project = "rtserve"
author = "the authors of rtserve"
copyright = "the authors of rtserve, MIT licence"
version = release = rtserve.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "docs.generate.mathml"]
myst_enable_extensions = ["deflist", "attrs_inline", "colon_fence"]
myst_heading_anchors = 4
html_math_renderer = "mathml"
smartquotes = False
highlight_language = "none"
default_role = "py:obj"
add_module_names = False
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False
exclude_patterns: list[str] = []
suppress_warnings = ["config.cache"]

html_theme = "pydata_sphinx_theme"
html_title = "rtserve"
html_static_path = ["_static"]
html_css_files = ["rtserve.css"]
html_js_files = ["tables.js"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "header_links_before_dropdown": 7,
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "back_to_top_button": False,
}
html_sidebars = {"index": [], "start": [], "changelog": []}
