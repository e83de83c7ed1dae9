"""Formulas as MathML, by the translator that docutils has: no script, no font and no network is needed to read one."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.errors import SphinxError

__all__ = ["setup"]


SIZES = re.compile(r"\\[bB]igg?[lr]?(?![a-zA-Z])")
"""Brackets by size: MathML stretches them by itself."""


def _written(node: nodes.Element, as_block: bool) -> str:
    text = SIZES.sub("", node.astext()).replace(r"\dots", r"\ldots")
    try:
        found: str = tex2mathml(text, as_block=as_block)
    except Exception as error:
        raise SphinxError(f"{node.source}:{node.line}: {text!r} cannot be set as MathML: {error}") from error
    return found


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(_written(node, as_block=False))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{_written(node, as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Enter the renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
