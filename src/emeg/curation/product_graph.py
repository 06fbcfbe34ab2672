"""Find which product of a store was made from which, by the names in every product's JSON files."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

from emeg.store import MARKERS, Store

WITHDRAWN = "withdrawn.json"
"""File in a model's folder that names withdrawn subjects; what it names is no input of the model."""

Product = tuple[str, str]
"""(kind, name), such as ``("corpora", "1b7e…")``."""


class ProductGraph:
    """All products of a store except recordings, and the texts in their JSON files.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        kinds = sorted(set(MARKERS) - {"recordings"})
        self.texts: dict[Product, frozenset[str]] = {
            (kind, name): texts_of(store, kind, name) for kind in kinds for name in store.names(kind)
        }

    @cached_property
    def _by_name(self) -> dict[str, Product]:
        return {name: (kind, name) for kind, name in self.texts}

    def holders(self, names: Iterable[str]) -> set[Product]:
        """Return the products that name one of `names`, or a product that does."""
        known, found = set(names), set[Product]()
        while fresh := {key for key, texts in self.texts.items() if key not in found and texts & known}:
            found |= fresh
            known |= {name for _, name in fresh}
        return found

    def ancestors(self, product: Product) -> set[Product]:
        """Return every product that one was made from, directly or not."""
        found: set[Product] = set()
        open_ends = [product]
        while open_ends:
            named = {self._by_name[text] for text in self.texts[open_ends.pop()] & self._by_name.keys()}
            fresh = named - found - {product}
            found |= fresh
            open_ends += fresh
        return found

    def inputs(self, product: Product) -> list[Product]:
        """Return the products that one was made from directly: its ancestors that no other input has."""
        every = self.ancestors(product)
        indirect = {further for one in every for further in self.ancestors(one)}
        return sorted(every - indirect)


def texts_of(store: Store, *product: str) -> frozenset[str]:
    """Return every text in the JSON files of a product's folder, keys too."""
    texts: set[str] = set()
    for location in store.children(*product):
        if location.name.endswith(".json") and location.name != WITHDRAWN:
            texts.update(_walk(store.read_json(*product, location.name)))
    return frozenset(texts)


def _walk(value: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for one in value.values():
            yield from _walk(one)
    elif isinstance(value, list):
        for one in value:
            yield from _walk(one)
