"""A real BERT encoder with seeded random heads, and eight English sentences for it."""

import torch
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from models import DROP, NAMED

TEXTS = [
    "The central bank left its main interest rate unchanged on Thursday.",
    "Shares of chip makers fell for a third day in a row.",
    ("How long should a sprained ankle be rested?", "When can I run again after twisting my ankle?"),
    "We measure the effect of further pretraining on four small corpora, and find that it helps most where labels "
    "are scarce, the texts are long, and their vocabulary is far from that of the first corpus.",
    "Yes.",
    "A café in Zürich serves 37 kinds of tea; its naïve website lists only nine!",
    ("The spacecraft entered orbit around Mars.", "An orbiter has arrived at the red planet."),
    "Dr. O'Neill's e-mail (sent 2004-08-17) wasn't delivered until 6:45 p.m.",
]


def models(source):
    """The two heads are new: the seed makes them the same in every run."""
    config = AutoConfig.from_pretrained(source, **DROP)
    torch.manual_seed(5)
    options = {"attn_implementation": "eager", "dtype": torch.float32}
    mlm = AutoModelForMaskedLM.from_pretrained(source, config=config, **options).eval()
    # A classifier drawn wide: with the usual 0.02 its logits and gradients are too small to show a mistake.
    labelled = AutoConfig.from_pretrained(source, initializer_range=0.5, **DROP, **NAMED)
    cls = AutoModelForSequenceClassification.from_pretrained(source, config=labelled, **options).eval()
    return mlm, cls, AutoTokenizer.from_pretrained(source)


def batch(tokenizer):
    """The sentences laid end to end, 15 % of the words masked, replaced or kept."""
    rows = [tokenizer(*([text] if isinstance(text, str) else text)) for text in TEXTS]
    original = torch.tensor([i for row in rows for i in row["input_ids"]])
    types = [row["token_type_ids"] for row in rows]
    draw = torch.Generator().manual_seed(3)
    special = torch.isin(original, torch.tensor(tokenizer.all_special_ids))
    masked = torch.nonzero((torch.rand(len(original), generator=draw) < 0.15) & ~special).flatten()
    fate = torch.rand(len(masked), generator=draw)
    ids = original.clone()
    ids[masked[fate < 0.8]] = tokenizer.mask_token_id
    ids[masked[fate >= 0.9]] = torch.randint(1000, 20000, (int((fate >= 0.9).sum()),), generator=draw)
    return {"ids": ids, "lengths": torch.tensor([len(t) for t in types]),
            "second": torch.tensor([t.index(1) if 1 in t else 0 for t in types]),
            "masked": masked, "targets": original[masked], "labels": torch.arange(len(TEXTS)) % 3}

