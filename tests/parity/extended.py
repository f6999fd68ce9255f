"""Is an extended model the old one with more words? extended.py OLD NEW TEXTS.jsonl

Loads both in transformers. The words of NEW/words.jsonl must be one token each, in a text and at its beginning; their
rows the mean of the rows of their pieces; texts without them must have the ids they had, and the same logits for old ids.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from shard import load_tokenizer, read_texts
from transformers import AutoModelForMaskedLM
from transformers.utils import logging


def fail(message):
    sys.exit(f"extended: {message}")


def check_words(old, new, words):
    for word, pieces in ((line["word"], line["pieces"]) for line in words):
        id = new.convert_tokens_to_ids(word)
        for text in (word, f"of {word}, {word}."):
            ids = new(text, add_special_tokens=False)["input_ids"]
            if ids.count(id) != text.count(word):
                fail(f"{word!r} ({id}) is not found in {text!r}: {ids}")
        if old.convert_tokens_to_ids(pieces) not in [
                old(text, add_special_tokens=False)["input_ids"] for text in (word, f" {word}")]:
            fail(f"{word!r} was not {pieces}")


def check_rows(old, new, words, tokenizer):
    """Every table with a row for each token, in the dtype of the file."""
    before, after = (load_file(directory / "model.safetensors") for directory in (old, new))
    if set(before) != set(after):
        fail(f"tensors: {set(before) ^ set(after)}")
    grown = 0
    for name, value in before.items():
        if value.shape == after[name].shape:
            if not torch.equal(value, after[name]):
                fail(f"{name} has changed")
            continue
        grown += 1
        if value.dtype != after[name].dtype or not torch.equal(value, after[name][:len(value)]):
            fail(f"{name}: old rows have changed")
        for line in words:
            wanted = value[tokenizer.convert_tokens_to_ids(line["pieces"])].double().mean(0)
            if not torch.equal(wanted.to(value.dtype), after[name][line["id"]]):
                fail(f"{name}: the row of {line['word']!r} is not the mean of its pieces'")
    return grown


def check_logits(old_dir, new_dir, old, new, texts):
    models = [AutoModelForMaskedLM.from_pretrained(d, dtype=torch.float32).eval() for d in (old_dir, new_dir)]
    for model, tokenizer in zip(models, (old, new)):
        decoder, words = model.get_output_embeddings().weight, model.get_input_embeddings().weight
        if decoder is not words or len(words) < len(tokenizer):
            fail(f"the decoder is {list(decoder.shape)}, the embeddings {list(words.shape)}, tokens {len(tokenizer)}")
        # A head the checkpoint has not is drawn at random: take the same for both.
    ours, theirs = models[1].state_dict(), models[0].state_dict()
    models[1].load_state_dict({name: theirs[name] if theirs[name].shape == value.shape else value
                               for name, value in ours.items()})
    bias = [next(v for k, v in model.named_parameters() if v.shape == (model.config.vocab_size,)) for model in models]
    worst = 0.0
    for text in texts:
        ids = torch.tensor([old(text, truncation=True, max_length=128)["input_ids"]])
        with torch.no_grad():
            a, b = (model(ids).logits - offset for model, offset in zip(models, bias))
        worst = max(worst, (a - b[..., :a.shape[-1]]).abs().max().item())
    if worst > 1e-5:
        fail(f"logits of old ids differ by {worst:g}")
    return worst


def main():
    logging.set_verbosity_error()
    old_dir, new_dir, texts = (Path(argument) for argument in sys.argv[1:])
    old, new = load_tokenizer(old_dir), load_tokenizer(new_dir)
    words = [json.loads(line) for line in (new_dir / "words.jsonl").read_text().splitlines()]
    added = {line["id"] for line in words}
    check_words(old, new, words)
    texts = [text for text, _ in read_texts(texts, None).values()]
    before, after = (tokenizer(texts, add_special_tokens=False)["input_ids"] for tokenizer in (old, new))
    without = [i for i, ids in enumerate(after) if not added & set(ids)]
    if not without or len(without) == len(texts):
        fail(f"{len(without)} of {len(texts)} texts have none of the words")
    for i in without:
        if before[i] != after[i]:
            fail(f"ids of a text without new words differ: {texts[i]!r}")
    grown = check_rows(old_dir, new_dir, words, old)
    worst = check_logits(old_dir, new_dir, old, new, [texts[i] for i in without[:20]])
    print(json.dumps({"words": len(words), "texts": len(texts), "without": len(without), "tables": grown,
                      "tokens": [sum(map(len, before)), sum(map(len, after))], "max_abs_diff": worst}))


if __name__ == "__main__":
    main()
