"""Adapters of AdapterHub's library: saved with their logits and gradients, and loaded again."""

import torch
import torch.nn.functional as F
from adapters import AutoAdapterModel, DoubleSeqBnConfig, IA3Config, LoRAConfig, ParBnConfig, SeqBnConfig

from batch import pad

CONFIGS = {
    "seq_bn": SeqBnConfig(reduction_factor=4),
    "double_seq_bn": DoubleSeqBnConfig(reduction_factor=4, leave_out=[1]),
    "par_bn": ParBnConfig(reduction_factor=2),
    "hub_lora": LoRAConfig(r=3, alpha=5),
    # A small alpha: with 8 the library's own merge is 3.3e-5 off in f32 (6e-14 in f64), and ours by as much.
    "hub_lora_all": LoRAConfig(r=2, alpha=1, attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True,
                               leave_out=[1]),
    "hub_lora_output": LoRAConfig(r=2, alpha=8, selfattn_lora=False, output_lora=True),
    "hub_ia3": IA3Config(),
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
    if adapter == "hub_ia3":
        name = name.replace(f".loras.{adapter}.lora_B", ".ia3_l")
    for part in ("lora_A", "lora_B"):
        name = name.replace(f".loras.{adapter}.{part}", f".{part}.weight")
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
    grads = {f"grad.{name}.{key}": grad for key, grad in grads.items()}
    return {f"{name}_logits": logits, f"{name}_loss": loss.reshape(1), **grads}


def every_adapter(kind, batch, out, moved):
    found = {}
    for name in CONFIGS:
        found |= adapter(name, kind, out / "cls", batch, out / name, moved)
    return found


def load(directory, base):
    """A model with the adapter and its head active; nothing may be missing or left over."""
    # Eager, as all that is checked: with sdpa and padding the library's DistilBERT is 0.07 off with a prefix, text by text not.
    model, info = AutoAdapterModel.from_pretrained(base, attn_implementation="eager"), {}
    name = model.load_adapter(str(directory), with_head=True, use_safetensors=True, set_active=True, loading_info=info)
    # The library lists one prefix at every layer, and a decoder that is the word embeddings.
    shared = (".prefix_tuning.pool.", ".3.weight")
    odd = {what: [key for key in keys if not any(part in key for part in shared)]
           for what, keys in info.items() if what.endswith("keys")}
    odd = {what: keys for what, keys in odd.items() if keys}
    if odd:
        raise SystemExit(f"check: {directory}: {odd}")
    model.active_head = name
    return model
