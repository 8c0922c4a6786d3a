"""Sphinx configuration; built with warnings as errors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.math import get_node_equation_number

from gsnn import __version__

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.application import Sphinx

project = "gsnn"
author = "The gsnn developers"
copyright = "2026, The gsnn developers"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
source_suffix = {".md": "myst-nb", ".rst": "restructuredtext"}

myst_enable_extensions = ["attrs_inline", "colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_execution_show_tb = True
nb_merge_streams = True

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = "gsnn"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["tutorials.css"]

# The letters N, I, O stand for the same thing wherever they are attributes.
suppress_warnings = ["ref.python"]


# Formulas are MathML, which browsers draw by themselves: a page needs no script from anywhere.


def _mathml(text: str, *, block: bool) -> str:
    # docutils knows these by other names.
    text = re.sub(r"\\(big|Big|bigg|Bigg)(?![a-zA-Z])", r"\\\1l", text.strip()).replace(r"\texttt", r"\mathtt")
    return str(tex2mathml(text, as_block=block))


def _inline_formula(translator: Any, node: Element) -> None:
    translator.body.append(_mathml(node.astext(), block=False))
    raise SkipNode


def _formula(translator: Any, node: Element) -> None:
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append(_mathml(node.astext(), block=True) + "</div>\n")
    raise SkipNode


def setup(app: Sphinx) -> None:
    """Draw formulas as MathML."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline_formula, None), block_renderers=(_formula, None))
