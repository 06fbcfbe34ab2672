import numpy as np
import pytest
from tests.messages import refusal

from emeg.data import Corpus, ShardConfig, TokenSet, shard, write_tokens
from emeg.data.sampling.plan import fixed_batches
from emeg.errors import UserError


@pytest.fixture
def corpus(people):
    return Corpus.open(people, shard(ShardConfig(root=str(people.root))).corpus)


def batches_of(corpus, codes):
    for batch in fixed_batches(corpus, 100.0):
        rows = np.array(batch.segments)
        yield rows, codes[rows].astype(np.int64)


def test_codes_come_back_in_corpus_order(people, corpus):
    codes = np.random.default_rng(0).integers(0, 512, (len(corpus), 4, 40, 3)).astype(np.uint16)
    name = write_tokens(people, corpus, "model", 0.25, 512, reversed(list(batches_of(corpus, codes))))
    tokens = TokenSet.open(people)
    assert np.array_equal(tokens.codes, codes)
    assert isinstance(tokens.codes, np.memmap)
    assert tokens.codes.dtype == np.uint16
    assert not tokens.codes.flags.writeable
    assert (tokens.name, tokens.corpus, tokens.tokenizer) == (name, corpus.name, "model")
    assert (tokens.overlap, tokens.codebook_size, tokens.n_quantizers, len(tokens)) == (0.25, 512, 3, len(corpus))
    assert tokens.manifest["shape"] == list(codes.shape)

    def never():
        raise AssertionError("the set is there already")
        yield

    assert write_tokens(people, corpus, "model", 0.25, 512, never()) == name


def test_other_tokenizer_or_overlap_is_another_set(people, corpus):
    codes = np.zeros((len(corpus), 1, 2, 1), np.uint16)
    names = {
        write_tokens(people, corpus, tokenizer, overlap, 512, batches_of(corpus, codes))
        for tokenizer in ("a", "b")
        for overlap in (0.0, 0.25)
    }
    assert len(names) == 4


@pytest.mark.parametrize(
    ("change", "named", "action"),
    [
        (lambda batches: batches[1:], "[0]", "each once"),
        (lambda batches: [*batches, batches[0]], "[0]", "each once"),
        (lambda batches: [(batches[0][0], batches[0][1] + 512), *batches[1:]], "0 to 511", "codebook_size"),
        (
            lambda batches: [(r, c[:, :, :1]) if i else (r, c) for i, (r, c) in enumerate(batches)],
            "(1, 1, 1)",
            "tokenizer",
        ),
    ],
)
def test_incomplete_or_impossible_codes_publish_nothing(people, corpus, change, named, action):
    codes = np.zeros((len(corpus), 1, 2, 1), np.uint16)
    with refusal(UserError, named, action=action):
        write_tokens(people, corpus, "a", 0.0, 512, change(list(batches_of(corpus, codes))))
    assert people.names("tokens") == []


def test_a_short_copy_is_refused(people, corpus):
    codes = np.zeros((len(corpus), 1, 2, 1), np.uint16)
    name = write_tokens(people, corpus, "a", 0.0, 512, batches_of(corpus, codes))
    path = people.location("tokens", name, "codes.npy").local_path()
    path.write_bytes(path.read_bytes()[:-2])
    with refusal(UserError, "codes.npy", "234 bytes", action="tokenize again"):
        TokenSet.open(people, name)
