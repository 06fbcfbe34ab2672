from emeg.data import Corpus, ShardConfig, shard


def test_a_corpus_shows_its_splits(people):
    made = shard(ShardConfig(root=str(people.root), held_out=0.5, validation=0.2))
    corpus = Corpus.open(people)
    text = repr(corpus)
    assert made.corpus in text
    assert f"{made.n_segments} segments" in text
    for split, n in made.n_subjects.items():
        assert f"{n} {split}" in text
    html = corpus._repr_html_()
    assert all(f"<td>{n}</td>" in html for n in made.segments.values())
