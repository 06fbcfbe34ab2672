"""Turn values into a page."""

from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined

PAGE_VERSION = 4
"""Part of the names of pages: raised when pages change, so that one of an older version is drawn again."""


def render(context: dict[str, object], page: str = "report.html.j2") -> str:
    """Render a template; text is escaped, plots are not, and a missing value is an error."""
    environment = Environment(
        loader=FunctionLoader(_template), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(page).render(context)


def _template(name: str) -> str:
    return (resources.files("emeg") / "reports" / "templates" / name).read_text(encoding="utf-8")
