"""Our token shards, read by nobody's code but numpy's.

`shard.py ids SHARD TEXTS.jsonl TOKENIZER_DIR MAX_LENGTH [--pair COL]` compares every sequence, its ids and which of its
tokens begin words, with what transformers' fast tokenizer makes of the same row, and stops at the first that differs.
"""

import argparse
import hashlib
import json
import os
import struct
import sys
from pathlib import Path

import numpy as np

TYPES = {"U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8", "I64": "<i8", "F32": "<f4"}


def read_shard(path):
    """Segments, each a whole safetensors blob: (metadata, tensors by name)."""
    data, at = (np.memmap(path, np.uint8, "r") if os.path.getsize(path) else b""), 0
    while at < len(data):
        body = at + 8 + struct.unpack("<Q", bytes(data[at:at + 8]))[0]
        header = json.loads(bytes(data[at + 8:body]))
        metadata, tensors, at = header.pop("__metadata__", {}), {}, body
        for name, entry in header.items():
            start, end = (body + offset for offset in entry["data_offsets"])
            tensors[name] = data[start:end].view(TYPES[entry["dtype"]]).reshape(entry["shape"])
            at = max(at, end)
        yield metadata, tensors


def sequences(path):
    """Every sequence of a shard in file order: metadata, ids, start of its second text (0 for none), which tokens
    begin words, row, label."""
    for metadata, tensors in read_shard(path):
        columns = {name: tensors[name] if name in tensors else None for name in ("second", "rows", "labels")}
        begins = np.unpackbits(tensors["words"], bitorder="little").astype(bool)
        offsets = tensors["offsets"]
        for i in range(len(offsets) - 1):
            second, row, label = (None if column is None else column[i] for column in columns.values())
            place = slice(offsets[i], offsets[i + 1])
            yield metadata, tensors["tokens"][place], int(second or 0), begins[place], row, label


def load_tokenizer(directory):
    """The fast tokenizer; a bare tokenizer.json will do."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    if (directory / "tokenizer_config.json").exists():
        return AutoTokenizer.from_pretrained(directory, use_fast=True)
    return PreTrainedTokenizerFast(tokenizer_file=str(directory / "tokenizer.json"))


def expected(tokenizer, texts, pairs, max_length):
    """Ids, the start of the second text and the word beginnings of each row; an empty second text starts at the last
    separator. What belongs to no word, a special token, counts as one."""
    has_pairs = any(pair is not None for pair in pairs)
    batch = tokenizer(texts, pairs if has_pairs else None, truncation=True, max_length=max_length)
    for i, ids in enumerate(batch["input_ids"]):
        origin, words = batch.sequence_ids(i), batch.word_ids(i)
        second = origin.index(1) if 1 in origin else len(ids) - 1
        begins = [word is None or word != before for word, before in zip(words, [None, *words])]
        yield ids, second if has_pairs else 0, begins


def read_texts(path, column):
    """Row number to (text, second text or None)."""
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return {row["row"]: (row["text"], row[column] if column else row.get("pair")) for row in rows}


def chunks(items, size):
    """Lists of up to `size` items."""
    held = []
    for item in items:
        held.append(item)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held


def first_difference(ours, theirs):
    return next((k for k, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))


def compare(found, texts, tokenizer, max_length, vocabulary):
    """Holds one chunk of sequences against transformers; the tokens in it, or the first difference and exit."""
    missing = [int(row) for *_, row, _ in found if int(row) not in texts]
    if missing:
        sys.exit(f"shard: row {missing[0]} is not in the texts")
    wanted = [texts[int(row)] for *_, row, _ in found]
    theirs = expected(tokenizer, [text for text, _ in wanted], [pair for _, pair in wanted], max_length)
    for (metadata, ids, second, begins, row, _), (want, want_second, want_begins) in zip(found, theirs):
        if metadata["tokenizer"] not in (vocabulary, f"sha256:{vocabulary}"):
            sys.exit(f"shard: tokenizer {metadata['tokenizer']}, but the directory has {vocabulary}")
        if ids.tolist() != want or second != want_second:
            at = first_difference(ids, want)
            sys.exit(f"shard: row {row} differs at token {at}, text {texts[int(row)]!r}:\n"
                     f"  ours   {ids.tolist()} second {second}\n  theirs {want} second {want_second}")
        if begins.tolist() != want_begins:
            at = first_difference(begins, want_begins)
            sys.exit(f"shard: row {row}: token {at}, {tokenizer.convert_ids_to_tokens(want[at])!r}, "
                     f"{'begins' if want_begins[at] else 'does not begin'} a word, text {texts[int(row)]!r}")
    return sum(len(ids) for _, ids, *_ in found)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["ids"])
    parser.add_argument("shard", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("max_length", type=int)
    parser.add_argument("--pair", help="key of the second text (default: pair, where a row has it)")
    args = parser.parse_args()
    texts, tokenizer = read_texts(args.texts, args.pair), load_tokenizer(args.tokenizer)
    digest = hashlib.sha256((args.tokenizer / "tokenizer.json").read_bytes()).hexdigest()
    count = tokens = 0
    for found in chunks(sequences(args.shard), 1000):
        tokens += compare(found, texts, tokenizer, args.max_length, digest)
        count += len(found)
    if count == 0:
        sys.exit(f"shard: {args.shard}: no sequences")
    print(json.dumps({"sequences": count, "tokens": tokens, "rows": len(texts)}))


if __name__ == "__main__":
    main()
