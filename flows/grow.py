"""Cut and tokenize a new corpus when enough recordings have come in."""

import logging
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from emeg.data import Corpus, ShardConfig
from emeg.flows.engine import publish, verb_flow
from emeg.flows.missing_stores import skip_without_store
from emeg.flows.shard import run_shard
from emeg.flows.tokenize import run_tokenize
from emeg.store import Store, models_of, read_catalog
from emeg.training import TokenizeConfig

logger = logging.getLogger(__name__)


@verb_flow
@flow(name="grow")
def grow_flow(root: str, threshold: int = 1) -> str | State[Any] | None:
    """Cut a new corpus if at least `threshold` recordings are in none, then tokenize it; returns the corpus."""
    if skipped := skip_without_store(root):
        return skipped
    store = Store.open(root)
    n_new = len(recordings_without_corpus(store))
    if n_new < threshold:
        logger.info("%s: %d recordings are in no corpus, fewer than %d; no new corpus", root, n_new, threshold)
        return None
    made = run_shard(ShardConfig(root=root))
    if not made.done_before:
        publish("corpus", root, made.corpus)
    tokenizers = models_of(store, "tokenizer")
    if len(tokenizers) != 1:
        logger.warning("%s: %d tokenizers; run tokenize with the one to use", root, len(tokenizers))
        return made.corpus
    tokens = run_tokenize(TokenizeConfig(root=root, corpus=made.corpus, tokenizer=tokenizers[0]))
    if not tokens.done_before:
        publish("tokens", root, tokens.tokens)
    return made.corpus


def recordings_without_corpus(store: Store) -> set[str]:
    """Return the recordings that no corpus has segments of."""
    used: set[str] = set()
    for name in store.names("corpora"):
        used |= set(Corpus.open(store, name).codes("recording")[0].tolist())
    return {row.recording for row in read_catalog(store)} - used
