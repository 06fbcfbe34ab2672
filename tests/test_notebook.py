"""Tables and results as a notebook shows them."""

from html.parser import HTMLParser

from emeg.config import Config
from emeg.notebook import html_table


class Cells(HTMLParser):
    """Collect the texts of a page; fail on a tag that is not part of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        assert tag in {"table", "thead", "tbody", "tr", "th", "td", "p"}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def texts_of(html: str) -> list[str]:
    parser = Cells()
    parser.feed(html)
    return parser.texts


def test_every_cell_is_escaped():
    nasty = "<script>alert('&')</script>"
    assert texts_of(html_table((nasty,), [(nasty,)])) == [nasty, nasty]


def test_a_result_shows_its_fields():
    class Result(Config):
        n: int
        name: str

    assert texts_of(Result(n=3, name="<b>")._repr_html_()) == ["Result", "n", "3", "name", "<b>"]
