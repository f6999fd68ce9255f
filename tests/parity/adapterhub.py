"""Bottleneck adapters of AdapterHub's library: saved with their logits and gradients, and loaded again."""

import torch
import torch.nn.functional as F
from adapters import AutoAdapterModel, DoubleSeqBnConfig, ParBnConfig, SeqBnConfig

from batch import pad

CONFIGS = {
    "seq_bn": SeqBnConfig(reduction_factor=4),
    "double_seq_bn": DoubleSeqBnConfig(reduction_factor=4, leave_out=[1]),
    "par_bn": ParBnConfig(reduction_factor=2),
    "scaled_par_bn": ParBnConfig(reduction_factor=2, scaling="learned", non_linearity="gelu"),
}
# BERT's pooler, RoBERTa's and DistilBERT's dense layer are the first of the head's two.
DENSE = {"bert": "bert.pooler.dense", "roberta": "classifier.dense", "distilbert": "pre_classifier"}
OUT = {"bert": "classifier", "roberta": "classifier.out_proj", "distilbert": "classifier"}


def our_name(name, adapter, kind):
    """A parameter's name as tapt builds it."""
    for place, ours in [("output.adapters", "output.LayerNorm"), ("attention_adapters.adapters", "sa_layer_norm"),
                        ("output_adapters.adapters", "output_layer_norm"), ("heads", "heads")]:
        name = name.replace(f"{place}.{adapter}.", f"{ours}.")
    return name.replace("heads.1.", f"{DENSE[kind]}.").replace("heads.4.", f"{OUT[kind]}.")


def adapter(name, kind, cls_dir, batch, out, moved):
    torch.manual_seed(13)
    model = AutoAdapterModel.from_pretrained(cls_dir)
    model.add_adapter(name, config=CONFIGS[name])
    activation = "relu" if kind == "distilbert" else "tanh"
    model.add_classification_head(name, num_labels=3, layers=2, activation_function=activation, use_pooler=False)
    model.train_adapter(name)
    model.eval()
    trained = {key: value for key, value in model.named_parameters() if value.requires_grad and f".{name}." in key}
    with torch.no_grad():
        for value in trained.values():
            value.add_(moved * torch.randn_like(value))
    model.save_adapter(str(out), name, with_head=True, use_safetensors=True)
    logits = model(**pad(batch["ids"], batch["lengths"], batch["second"], model.config), head=name).logits
    loss = F.cross_entropy(logits, batch["labels"])
    loss.backward()
    grads = {our_name(key, name, kind): value.grad.clone() for key, value in trained.items()}
    # A pooler that the base has stays as it is when tapt trains.
    grads = {f"grad.{name}.{key}": grad for key, grad in grads.items() if not key.startswith("bert.pooler.")}
    return {f"{name}_logits": logits, f"{name}_loss": loss.reshape(1), **grads}


def every_adapter(kind, batch, out, moved):
    found = {}
    for name in CONFIGS:
        found |= adapter(name, kind, out / "cls", batch, out / name, moved)
    return found


def load(directory, base):
    """A model with the adapter and its head active; nothing may be missing or left over."""
    model, info = AutoAdapterModel.from_pretrained(base), {}
    name = model.load_adapter(str(directory), with_head=True, use_safetensors=True, set_active=True, loading_info=info)
    odd = {what: keys for what, keys in info.items() if keys and what.endswith("keys")}
    if odd:
        raise SystemExit(f"check: {directory}: {odd}")
    model.active_head = name
    return model
