"""Texts in several sequences, held against transformers' fast tokenizer.

`pieces.py stride SHARD TEXTS.jsonl TOKENIZER_DIR` wants the windows `return_overflowing_tokens` gives; of a pair, those
of the longer text. `pieces.py pack` and `pieces.py join` want the texts whole when the bodies are put together again,
broken inside a word only where it fills a sequence, and in joined sequences the separator between two texts.
"""

import json
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
from shard import load_tokenizer, read_shard, read_texts


def sequences(path):
    """Metadata, ids, word bits and row of every sequence."""
    for metadata, tensors in read_shard(path):
        bits = np.unpackbits(tensors["words"], bitorder="little")
        for start, end, row in zip(tensors["offsets"], tensors["offsets"][1:], tensors["rows"]):
            yield metadata, tensors["tokens"][start:end].tolist(), bits[start:end].tolist(), int(row)


def same(row, ours, theirs):
    if ours != theirs:
        sys.exit(f"pieces: row {row}:\n  ours   {ours}\n  theirs {theirs}")


def windows(tokenizer, text, pair, length, stride):
    """What transformers makes of a row, or nothing where both texts of a pair are too long for its windows."""
    options = {"max_length": length, "stride": stride, "return_overflowing_tokens": True}
    if pair is None:
        return tokenizer(text, truncation=True, **options)["input_ids"]
    first, second = (len(tokenizer(part, add_special_tokens=False)["input_ids"]) for part in (text, pair))
    room = length - tokenizer.num_special_tokens_to_add(pair=True)
    if first + second > room and min(first, second) > (room - stride) // 2:
        return None
    longer = "only_first" if first > second else "only_second"
    return tokenizer(text, pair, truncation=longer, **options)["input_ids"]


def stride(shard, texts, tokenizer):
    compared = 0
    for row, group in groupby(sequences(shard), lambda sequence: sequence[3]):
        group = list(group)
        about = group[0][0]
        theirs = windows(tokenizer, *texts[row], int(about["max_length"]), int(about["stride"]))
        if theirs is not None:
            same(row, [ids for _, ids, *_ in group], theirs)
            compared += 1
    return compared


def bodies(tokenizer, texts):
    """Ids of every text without special tokens, and the words they belong to."""
    batch = tokenizer([text for text, _ in texts.values()], add_special_tokens=False)
    return {row: (ids, batch.word_ids(i)) for i, (row, ids) in enumerate(zip(texts, batch["input_ids"]))}


def whole_words(words, at, room, row):
    """Fails where a break at `at` divides a word that would have fitted into a sequence."""
    if 0 < at < len(words) and words[at] == words[at - 1] and words.count(words[at]) <= room:
        sys.exit(f"pieces: row {row}: broken inside a word, before token {at}")


def pack(shard, texts, tokenizer):
    wanted, seen = bodies(tokenizer, texts), 0
    for row, group in groupby(sequences(shard), lambda sequence: sequence[3]):
        ids, words = wanted[row]
        at = 0
        for about, sequence, bits, _ in group:
            body = sequence[1:-1]
            whole_words(words, at, int(about["max_length"]) - 2, row)
            begins = [k == 0 or words[at + k] != words[at + k - 1] for k in range(len(body))]
            same(row, [bool(bit) for bit in bits], [True, *begins, True])
            same(row, [sequence[0], sequence[-1]], [tokenizer.cls_token_id, tokenizer.sep_token_id])
            same(row, body, ids[at:at + len(body)])
            at += len(body)
        same(row, at, len(ids))
        seen += 1
    same("all", seen, len(texts))
    return seen


def join(shard, texts, tokenizer):
    """The stream of all bodies again: a separator, or the end of a sequence, lies between two texts and nowhere else."""
    found = [(about, ids) for about, ids, *_ in sequences(shard)]
    room = int(found[0][0]["max_length"]) - 2
    text = iter((row, *body) for row, body in bodies(tokenizer, texts).items() if body[0])
    row, ids, words = next(text)
    at, sizes = 0, []
    for _, sequence in found:
        body, k = sequence[1:-1], 0
        sizes.append(len(body))
        while k < len(body):
            if at == len(ids):
                if k:
                    same(row, body[k], tokenizer.sep_token_id)
                    k += 1
                (row, ids, words), at = next(text), 0
            whole_words(words, at, room if k == 0 else 0, row)
            part = min(len(body) - k, len(ids) - at)
            same(row, body[k:k + part], ids[at:at + part])
            k, at = k + part, at + part
    same("last", (at, next(text, None)), (len(ids), None))
    if np.mean(sizes[:-1]) < 0.95 * room:
        sys.exit(f"pieces: sequences have {np.mean(sizes):.1f} tokens of {room}")
    return len(found)


def main():
    command, shard, texts, directory = sys.argv[1:]
    tokenizer = load_tokenizer(Path(directory))
    texts = read_texts(texts, None)
    checks = {"stride": stride, "pack": pack, "join": join}
    print(json.dumps({"command": command, "compared": checks[command](shard, texts, tokenizer)}))


if __name__ == "__main__":
    main()
