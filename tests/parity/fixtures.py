"""Reference numbers from transformers and peft: fixtures.py OUT [--model DIR].

OUT/NAME/{mlm,cls} are checkpoints, OUT/NAME/{lora,…} adapters; OUT/NAME/io.safetensors holds one batch and what came of it.
Everything is float32, without dropout, and laid out as our programs do: [tokens, …], no padding.
"""

import argparse
import copy
import shutil
from pathlib import Path

import torch
import torch.nn.functional as F
from peft import (
    IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig, TrainableTokensConfig, get_peft_model,
)
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import get_linear_schedule_with_warmup
from transformers.utils import logging

import adapterhub
import real
from batch import class_logits, pad, unpad
from models import CONFIGS, randomise, tiny, write_bare, write_old

TARGETS = {"bert": ["query", "value"], "roberta": ["query", "value"], "distilbert": ["q_lin", "v_lin"]}
TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"]


def file_names(path):
    with safe_open(path, "pt") as file:
        return set(file.keys())


def tiny_batch(name, vocab):
    """Five sequences: a very short one, one that is as long as allowed behind virtual tokens, two pairs for BERT."""
    draw = torch.Generator().manual_seed(7)
    lengths = torch.tensor([17, 2, 63, 30, 9])
    original = torch.randint(5, vocab, (int(lengths.sum()),), generator=draw)
    ids = original.clone()
    masked = torch.randperm(len(ids), generator=draw)[:23].sort().values
    ids[masked[::2]] = 4  # some are masked, some replaced, some kept, as in training
    ids[masked[1::4]] = torch.randint(5, vocab, (len(masked[1::4]),), generator=draw)
    second = [8, 0, 0, 13, 0] if name == "bert" else [0] * 5
    return {"ids": ids, "lengths": lengths, "second": torch.tensor(second), "masked": masked,
            "targets": original[masked], "labels": torch.tensor([2, 0, 1, 1, 2])}


def mlm_pass(model, batch, inputs):
    logits = unpad(model(**inputs).logits, inputs)[batch["masked"]]
    return logits, F.cross_entropy(logits, batch["targets"])


def cls_pass(model, batch, inputs):
    logits = class_logits(model, inputs)
    return logits, F.cross_entropy(logits, batch["labels"])


def file_name(name):
    """PEFT keeps the adapter's name inside parameter names, but not in its file."""
    if name == "prompt_encoder.default.embedding.weight":
        return "prompt_embeddings"
    return name.replace(".modules_to_save.default.", ".").replace(".default.", ".").removesuffix(".default").replace("lora_magnitude_vector.weight", "lora_magnitude_vector")


def gradients(model, loss, prefix):
    """By the name in the file; a tied decoder appears once, as the word embeddings."""
    model.zero_grad(set_to_none=True)
    loss.backward()
    found = {file_name(name): p.grad for name, p in model.named_parameters() if p.requires_grad}
    return {f"grad.{prefix}.{name}": grad.clone() for name, grad in found.items()}


def reference(mlm, cls, batch):
    """Hidden states, logits, losses and gradients of both heads."""
    inputs = pad(batch["ids"], batch["lengths"], batch["second"], mlm.config)
    hidden = cls.base_model(**inputs, output_hidden_states=True).hidden_states
    out = {f"hidden.{i}": unpad(state, inputs) for i, state in enumerate(hidden)}
    out["mlm_logits"], loss = mlm_pass(mlm, batch, inputs)
    out |= {"mlm_loss": loss.reshape(1), **gradients(mlm, loss, "mlm")}
    out["class_logits"], loss = cls_pass(cls, batch, inputs)
    return out | {"class_loss": loss.reshape(1), **gradients(cls, loss, "cls")}


def problems(name, cls, batch, out):
    """Several labels a text, and a number: logits, and the loss as transformers itself reduces it."""
    draw, found = torch.Generator().manual_seed(5), {}
    tags = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 1]]).float()
    rates = torch.tensor([0.5, -1.25, 3, 0, 2.5])
    for kind, problem, labels in (("tags", "multi_label_classification", tags), ("rates", "regression", rates)):
        config = copy.deepcopy(CONFIGS[name])
        config.num_labels, config.problem_type = labels[0].numel(), problem
        model = type(cls)._from_config(config, attn_implementation="eager").eval()
        randomise(model, draw)
        model.base_model.load_state_dict(cls.base_model.state_dict())
        model.save_pretrained(out / kind)
        inputs = pad(batch["ids"], batch["lengths"], batch["second"], config)
        result = model(**inputs, labels=labels)
        found |= {f"{kind}_labels": labels, f"{kind}_logits": result.logits, f"{kind}_loss": result.loss.reshape(1)}
        found |= gradients(model, result.loss, kind)
    return found


def adapters(config):
    """A config of each method that peft has and we read."""
    kind = config.model_type
    query, value = TARGETS[kind]
    common = {"task_type": "SEQ_CLS"}
    lora = {**common, "r": 4, "lora_alpha": 8, "target_modules": [query, value]}
    inner = "lin2" if kind == "distilbert" else "output.dense"
    virtual = {"num_virtual_tokens": 7, "token_dim": config.hidden_size,  # peft does not find DistilBERT's sizes
               "num_layers": config.num_hidden_layers, "num_attention_heads": config.num_attention_heads}
    yield "lora", LoraConfig(**lora)
    yield "rslora", LoraConfig(**lora, use_rslora=True)
    yield "dora", LoraConfig(**lora, use_dora=True)
    yield "patterns", LoraConfig(**lora, rank_pattern={f"0.*{query}": 2}, alpha_pattern={value: 3}, layers_to_transform=[0])
    yield "pissa", LoraConfig(**lora, init_lora_weights="pissa")
    yield "olora", LoraConfig(**lora, init_lora_weights="olora")
    yield "ia3", IA3Config(**common, target_modules=[value, inner], feedforward_modules=[inner])
    yield "prompt", PromptTuningConfig(**common, **virtual)
    yield "tokens", TrainableTokensConfig(**common, target_modules=["word_embeddings"], token_indices=[9, 4, 77])
    yield "lora+tokens", LoraConfig(**lora, trainable_token_indices={"word_embeddings": [5, 6]})
    if kind != "distilbert":  # peft needs a model that takes past keys and values
        yield "prefix", PrefixTuningConfig(**common, **virtual)
        yield "projected", PrefixTuningConfig(**common, **virtual, prefix_projection=True, encoder_hidden_size=5)


def adapter(name, config, cls_dir, cls, batch, out, moved):
    """A saved adapter, every weight moved from where it began, with its logits and gradients."""
    torch.manual_seed(11)
    base = type(cls).from_pretrained(cls_dir, attn_implementation="eager")
    model = get_peft_model(base, config).eval()
    with torch.no_grad():
        for value in (p for p in model.parameters() if p.requires_grad):
            value.add_(moved * torch.randn_like(value))
    model.save_pretrained(out)
    logits, loss = cls_pass(model, batch, pad(batch["ids"], batch["lengths"], batch["second"], base.config))
    logits_only = {f"{name}_logits": logits, f"{name}_loss": loss.reshape(1)}
    if name == "projected":  # the file has what the network gives, not the network
        return logits_only
    grads = gradients(model, loss, name)
    expected = {f"grad.{name}.{key}" for key in file_names(out / "adapter_model.safetensors")}
    assert set(grads) == expected, set(grads) ^ expected
    return {**logits_only, **grads}


def every_adapter(kind, batch, cls, out, moved=0.3):
    found = {}
    for name, config in adapters(cls.config):
        found |= adapter(name, config, out / "cls", cls, batch, out / name, moved)
    return found | adapterhub.every_adapter(kind, batch, out, moved)


def untied(mlm, batch, out):
    """The same model with a decoder of its own."""
    config = type(mlm.config)(**{**mlm.config.to_dict(), "tie_word_embeddings": False})
    model = type(mlm)._from_config(config, attn_implementation="eager").eval()
    model.load_state_dict(mlm.state_dict())
    with torch.no_grad():
        decoder = model.get_output_embeddings().weight
        decoder.add_(0.1 * torch.randn(decoder.shape, generator=torch.Generator().manual_seed(13)))
    model.save_pretrained(out)
    logits, loss = mlm_pass(model, batch, pad(batch["ids"], batch["lengths"], batch["second"], config))
    return {"untied_logits": logits, **gradients(model, loss, "untied")}


def adamw(mlm, batch, lr, steps=10):
    """Ten steps as the Trainer makes them. `lr` is the rate a step used (the first is 0), `norm` is before clipping."""
    model = copy.deepcopy(mlm)
    inputs = pad(batch["ids"], batch["lengths"], batch["second"], model.config)
    flat = [p for p in model.parameters() if p.ndim < 2]  # biases and LayerNorm: no decay
    deep = [p for p in model.parameters() if p.ndim >= 2]
    groups = [{"params": deep, "weight_decay": 0.01}, {"params": flat, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.999), eps=1e-8)
    schedule = get_linear_schedule_with_warmup(optimizer, 2, steps)
    log = {"adamw.loss": [], "adamw.lr": [], "adamw.norm": []}
    for _ in range(steps):
        _, loss = mlm_pass(model, batch, inputs)
        optimizer.zero_grad()
        loss.backward()
        # PyTorch's own norm sums the squares of 12 million gradients in f32, and is off by 1e-5: ours sums in f64.
        norm = torch.stack([p.grad.double().norm() for p in model.parameters() if p.grad is not None]).norm()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for values, value in zip(log.values(), (loss.item(), schedule.get_last_lr()[0], norm.item())):
            values.append(value)
        optimizer.step()
        schedule.step()
    after = {f"adamw.{name}": value for name, value in model.named_parameters()}
    return {name: torch.tensor(values) for name, values in log.items()} | after


def save(tensors, path):
    """Parameters may share storage with a model and carry a graph: the file gets plain copies."""
    save_file({name: value.detach().clone().contiguous() for name, value in tensors.items()}, path)


def tiny_family(name, out):
    mlm, cls = tiny(name)
    mlm.save_pretrained(out / "mlm")
    cls.save_pretrained(out / "cls")
    for model, kind in ((mlm, "mlm"), (cls, "cls")):
        ours = {n for n, _ in model.named_parameters()}
        assert ours == file_names(out / kind / "model.safetensors"), f"{name}: {kind} names are not the file's"
    batch = tiny_batch(name, mlm.config.vocab_size)
    tensors = batch | reference(mlm, cls, batch) | adamw(mlm, batch, 1e-3)
    tensors |= every_adapter(name, batch, cls, out) | untied(mlm, batch, out / "untied")
    tensors |= problems(name, cls, batch, out)
    if name == "bert":
        write_old(out / "mlm", out / "old")
        write_bare(cls, out / "bare")
    save(tensors, out / "io.safetensors")


def real_family(source, out):
    mlm, cls, tokenizer = real.models(source)
    for model, kind in ((mlm, "mlm"), (cls, "cls")):
        model.save_pretrained(out / kind)
        for name in TOKENIZER_FILES:  # copied: save_pretrained would change the bytes, and so the digest
            shutil.copy(source / name, out / kind / name)
    batch = real.batch(tokenizer)
    tensors = batch | reference(mlm, cls, batch) | adamw(mlm, batch, 1e-4)
    # Real weights are small: as far as the tiny ones are moved, rounding would be all one sees.
    tensors |= every_adapter("bert", batch, cls, out, moved=0.05)
    save(tensors, out / "io.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, help="directory of a real BERT encoder, for OUT/real")
    args = parser.parse_args()
    logging.set_verbosity_error()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(2)
    for name in CONFIGS:
        tiny_family(name, args.out / name)
    if args.model:
        real_family(args.model, args.out / "real")


if __name__ == "__main__":
    main()
