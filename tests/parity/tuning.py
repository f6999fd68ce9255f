"""Reference numbers of fine-tuning from transformers and torch: tuning.py OUT.

OUT/NAME/cls is a tiny classifier, OUT/NAME/io.safetensors one batch and what came of it. Float32, no dropout.
"""

import copy
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import get_linear_schedule_with_warmup

from batch import pad
from models import CONFIGS, tiny

LR, HEAD_LR, LAYER_DECAY = 1e-3, 4e-3, 0.5


def batch(vocab):
    draw = torch.Generator().manual_seed(3)
    lengths = torch.tensor([12, 3, 30, 8, 17])
    return {"ids": torch.randint(5, vocab, (int(lengths.sum()),), generator=draw), "lengths": lengths,
            "second": torch.zeros(5, dtype=torch.int64), "labels": torch.tensor([2, 0, 1, 1, 2])}


def rate(name, layers):
    """lr * decay^(layers above); the head and BERT's pooler at a rate of their own."""
    place = next((int(part) for part in name.split(".") if part.isdigit()), None)
    if place is not None:
        return LR * LAYER_DECAY ** (layers - 1 - place)
    return LR * LAYER_DECAY ** layers if "embeddings." in name else HEAD_LR


def layered(cls, batch, inputs, steps=10):
    """Ten steps with the rate of every parameter its own."""
    model = copy.deepcopy(cls)
    layers = model.config.num_hidden_layers
    groups = [{"params": [p], "lr": rate(name, layers), "weight_decay": 0.01 if p.ndim > 1 else 0.0}
              for name, p in model.named_parameters()]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.999), eps=1e-8)
    schedule = get_linear_schedule_with_warmup(optimizer, 2, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(**inputs).logits, batch["labels"]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return {f"layered.{name}": value for name, value in model.named_parameters()}


WEIGHTS = torch.tensor([0.5, 2.0, 1.25])


def focal(logits, labels, gamma, weights):
    """(1 - p)^gamma, by Lin et al. 2017; the mean as torch's, over the weights."""
    p = logits.softmax(-1)[torch.arange(len(labels)), labels]
    each = -((1 - p) ** gamma) * p.log()
    return (each * weights[labels]).sum() / weights[labels].sum()


def losses(cls, batch, inputs):
    """Losses of the batch, and their gradients of the logits."""
    labels, found = batch["labels"], {}
    kinds = {
        "plain": lambda x: F.cross_entropy(x, labels),
        "weighted": lambda x: F.cross_entropy(x, labels, weight=WEIGHTS),
        "smoothed": lambda x: F.cross_entropy(x, labels, label_smoothing=0.15),
        "both": lambda x: F.cross_entropy(x, labels, weight=WEIGHTS, label_smoothing=0.15),
        "focal": lambda x: focal(x, labels, 2.0, torch.ones(3)),
        "focal-weighted": lambda x: focal(x, labels, 0.5, WEIGHTS),
    }
    for kind, loss in kinds.items():
        logits = cls(**inputs).logits.detach().requires_grad_()
        value = loss(logits)
        value.backward()
        found |= {f"loss.{kind}": value.reshape(1), f"grad.{kind}": logits.grad, "logits": logits}
    return found


def family(name, out):
    cls = tiny(name)[1]
    cls.save_pretrained(out / "cls")
    one = batch(cls.config.vocab_size)
    inputs = pad(one["ids"], one["lengths"], one["second"], cls.config)
    found = one | layered(cls, one, inputs) | losses(cls, one, inputs)
    save_file({name: value.detach().clone().contiguous() for name, value in found.items()}, out / "io.safetensors")


def main():
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(2)
    for name in CONFIGS:
        family(name, Path(sys.argv[1]) / name)


if __name__ == "__main__":
    main()
