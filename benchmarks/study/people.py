"""Add simulated subjects to the pretraining study, in parts that are deleted once their tokens are written.

`python -m benchmarks.study.people FOLDER PARTS [FIRST]` simulates PARTS times 12 subjects with 19 electrodes, ingests
and tokenizes them, and writes FOLDER/extra/NUMBER.npz with codes, targets and subjects. Their seeds differ from those
of the archives that have tasks.
"""

import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from benchmarks.study.prepare import segments

from emeg.data import Corpus, ShardConfig, shard
from emeg.ingest import IngestConfig, ingest
from emeg.store import Store
from emeg.synthetic import SynthesizeConfig, synthesize
from emeg.tokenizers.braintokenizer import BrainTokenizer

SUBJECTS = 12
"""Subjects of a part."""
FIRST_SEED = 1000
DEVICE = "standard19"


def write_part(folder: Path, number: int, tokenizer: BrainTokenizer) -> None:
    """Simulate, ingest and tokenize one part."""
    with tempfile.TemporaryDirectory() as temporary:
        archive, root = f"{temporary}/archive", f"{temporary}/store"
        config = SynthesizeConfig(
            out=archive,
            n_subjects=SUBJECTS,
            devices=(DEVICE,),
            imagery_device=DEVICE,
            devices_per_subject=0,
            seed=FIRST_SEED + number,
            workers=1,
        )
        synthesize(config)
        store = Store.open(root, create=True)
        ingest(IngestConfig(archive=archive, root=root, workers=0))
        corpus = Corpus.open(store, shard(ShardConfig(root=root)).corpus)
        rows = list(range(len(corpus.column("subject"))))
        layouts = corpus.column("layout")
        most = max(set(layouts), key=lambda one: int((layouts == one).sum()))
        rows = [row for row in rows if layouts[row] == most]
        found = segments(corpus, tokenizer, rows, 0.0)
        subjects = np.array(
            [f"extra-{number}/{one.split('/')[1]}" for one in corpus.column("subject").astype(str)[rows]]
        )
        split = np.full(len(rows), "train")
        np.savez(folder / "extra" / f"{number:03d}.npz", **found, subject=subjects, split=split)


def main() -> None:
    """Write the parts."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder, parts = Path(sys.argv[1]), int(sys.argv[2])
    first = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    (folder / "extra").mkdir(exist_ok=True)
    tokenizer = BrainTokenizer.from_pretrained(folder / "tokenizer")
    for number in range(first, first + parts):
        began = time.process_time()
        write_part(folder, number, tokenizer)
        print(f"part {number}: {SUBJECTS} subjects, {time.process_time() - began:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
