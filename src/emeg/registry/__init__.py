"""The registry of public datasets: one checked YAML entry each, and the rules that follow from it.

``recipes/datasets/<id>.yaml`` ──`Registry.load`──▶ `Entry` ──▶ `Treatment` of its recordings (ingest)
                                                     └──▶ shared subjects, never pretrained on, unseen devices (shard)
"""

from emeg.registry.entry import (
    Channels,
    Entry,
    Pattern,
    SharedSubjects,
    SubjectKey,
    Treatment,
)
from emeg.registry.shelf import Match, Registry, plain_doi
from emeg.registry.showing import DatasetsConfig, DatasetsResult, datasets

__all__ = [
    "Channels",
    "DatasetsConfig",
    "DatasetsResult",
    "Entry",
    "Match",
    "Pattern",
    "Registry",
    "SharedSubjects",
    "SubjectKey",
    "Treatment",
    "datasets",
    "plain_doi",
]
