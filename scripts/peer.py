"""What the two peers share: our token shards as transformers' features, and its models."""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "parity"))
from shard import load_tokenizer, read_shard, sequences  # noqa: E402

__all__ = ["device", "features", "label_names", "load_model", "load_tokenizer"]


def label_names(path):
    """The class names of a shard, in the order of its label numbers."""
    names = {metadata.get("labels") for metadata, _ in read_shard(path)}
    if len(names) != 1 or None in names:
        sys.exit(f"peer: {path}: its segments do not share one list of labels")
    return json.loads(names.pop())


def features(path, config, tokenizer, limit=None):
    """Sequences in file order, as the collators take them."""
    special, out = set(tokenizer.all_special_ids), []
    for _, tokens, second, _, _, label in sequences(path):
        if len(out) == limit:
            break
        ids = tokens.tolist()
        row = {"input_ids": ids, "special_tokens_mask": [int(i in special) for i in ids]}
        if getattr(config, "type_vocab_size", 1) > 1:
            row["token_type_ids"] = [int(0 < second <= place) for place in range(len(ids))]
        if label is not None:
            row["labels"] = int(label)
        out.append(row)
    return out or sys.exit(f"peer: {path}: no sequences")


def load_model(kind, directory, names=None):
    """A head on the encoder, as transformers makes it; a new head is drawn from torch's generator."""
    logging.set_verbosity_error()
    if kind == "mlm":
        return AutoModelForMaskedLM.from_pretrained(directory, dtype=torch.float32)
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    return AutoModelForSequenceClassification.from_pretrained(
        directory, dtype=torch.float32, num_labels=len(names), ignore_mismatched_sizes=True, **labels)


def device(name):
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
