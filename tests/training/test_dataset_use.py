"""The declaration of training data counts what the corpus's training split holds, and follows the lineage."""

import numpy as np

from emeg.data import Corpus
from emeg.store import Store, read_catalog
from emeg.training.dataset_use import FIELD, DatasetUse, datasets_of_corpus, declared_datasets, describe_use


def test_subjects_and_hours_are_those_of_the_training_split(root):
    store = Store.open(root)
    corpus = Corpus.open(store)
    (found,) = datasets_of_corpus(store, corpus, "pretraining")
    trained = {name for name, split in corpus.subjects.items() if split == "train"}
    rows = [row for row in read_catalog(store) if f"{row.dataset}/{row.subject}" in trained]
    assert found.subjects == len({row.subject for row in rows})
    assert found.corpus == corpus.name
    assert 0 < found.hours <= sum(row.duration_s for row in rows) / 3600
    n_segments = int(np.sum(corpus.column("split") == "train"))
    assert found.hours == round(n_segments * corpus.n_samples / corpus.sfreq / 3600, 4)
    assert found.licences == tuple(sorted({row.licence or "not stated" for row in rows}))


def test_a_known_dataset_has_its_doi():
    assert (
        describe_use("mdd", "finetuning", subjects=1, hours=0.1, licences=[""]).doi == "10.6084/m9.figshare.4244171.v2"
    )
    assert describe_use("mine", "finetuning", subjects=1, hours=0.1, licences=[""]).licences == ("not stated",)


def test_a_declaration_survives_its_file():
    use = DatasetUse(id="a", stage="tokenizer", subjects=1, hours=0.25, licences=("CC0-1.0",))
    assert declared_datasets({FIELD: [use.model_dump(mode="json")]}) == [use]
    assert declared_datasets({}) == []
