"""The Python side of `scripts/bench-data`: the whole command from text to tokens on disk, as `datasets` users write it.

peer_prep.py TOKENIZER OUT FILE... --num-proc N. JSON lines with a column `text`, truncated at 512 tokens.
"""

import argparse
import tempfile

from datasets import disable_progress_bars, load_dataset
from transformers import AutoTokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokenizer")
    parser.add_argument("out")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--num-proc", type=int, help="processes [default: one, whose tokenizer uses all cores]")
    args = parser.parse_args()
    disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    with tempfile.TemporaryDirectory() as cache:
        rows = load_dataset("json", data_files=args.files, split="train", cache_dir=cache)
        tokens = rows.map(
            lambda batch: tokenizer(batch["text"], truncation=True, max_length=512),
            batched=True, num_proc=args.num_proc, remove_columns=rows.column_names)
        tokens.save_to_disk(args.out)


if __name__ == "__main__":
    main()
