"""The Python side of `scripts/bench-data`: tokens a second through transformers' collator for masked language models.

peer_mask.py MODEL SHARD --sequences N: batches of 32 in file order. Only the collator is timed, in its faster form
(NumPy or PyTorch); Python's start and the reading of the shard are not.
"""

import argparse
import time
from pathlib import Path

from transformers import DataCollatorForLanguageModeling
from transformers.utils import logging

from peer import features, load_tokenizer


def rate(collate, rows, batch):
    start = time.perf_counter()
    for at in range(0, len(rows), batch):
        collate(rows[at:at + batch])
    return sum(len(row["input_ids"]) for row in rows) / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("shard")
    parser.add_argument("--sequences", type=int, default=8192)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    logging.set_verbosity_error()
    tokenizer = load_tokenizer(args.model)
    rows = features(args.shard, None, tokenizer, args.sequences)
    kinds = [DataCollatorForLanguageModeling(tokenizer, return_tensors=kind) for kind in ("pt", "np")]
    for collate in kinds:
        rate(collate, rows[:320], args.batch)
    print(max(rate(collate, rows, args.batch) for collate in kinds))


if __name__ == "__main__":
    main()
