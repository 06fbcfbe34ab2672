"""Sphinx configuration: ``make docs`` builds the site into ``build/docs``."""

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

from generate.names import public_names  # noqa: E402 - found beside this file
from generate.pages import write_pages  # noqa: E402

from emeg.version import __version__  # noqa: E402

project = "emeg"
author = "The emeg developers"
project_copyright = "The emeg developers"
version = release = __version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "sphinx_design",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["generate", "Thumbs.db"]
default_role = "literal"
nitpicky = True
smartquotes = False  # two dashes of an option stay two dashes

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True

toc_object_entries = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_title = f"emeg {release}"
html_static_path = ["_static"]
html_css_files = ["emeg.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": f"emeg {release}"},
    "show_prev_next": False,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "navigation_depth": 2,
    "show_toc_level": 2,
    "collapse_navigation": True,
}
html_sidebars = {"changelog": [], "tutorial": [], "install": [], "glossary": []}

_PUBLIC = {
    f"{defined_in}.{name}": f"{room}.{name}"
    for room, names in public_names().items()
    for name, defined_in in names.items()
}
"""Full name of the definition -> name under which it is documented."""


def resolve_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.Node) -> nodes.Node | None:
    """Resolve a type in a signature: link public names, leave names of other packages and internal ones as text.

    References that a page makes to a name of emeg stay unresolved, so that the build reports them.
    """
    if node.get("refdomain") != "py":
        return None
    target = str(node.get("reftarget", ""))
    public = _PUBLIC.get(target)
    if public is not None:
        node["reftarget"] = public
        domain = env.get_domain("py")
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", public, node, contnode)
    from_signature = not node.get("refexplicit") and node.get("reftype") in {"class", "obj", "exc"}
    return contnode if from_signature else None


def escape_bars(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Escape ``|x|`` outside code in docstrings: there it means an absolute value, not a substitution."""
    del app, what, name, obj, options
    for number, line in enumerate(lines):
        if "|" in line and not line.lstrip().startswith(("|", "+")):
            parts = re.split(r"(`+[^`]*`+)", line)
            lines[number] = "".join(part if at % 2 else part.replace("|", "\\|") for at, part in enumerate(parts))


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the generated pages before Sphinx looks for sources."""
    write_pages(HERE / "reference" / "generated")
    app.connect("missing-reference", resolve_name)
    app.connect("autodoc-process-docstring", escape_bars, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
