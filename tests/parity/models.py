"""Tiny random models whose every weight, bias and LayerNorm matters, so that a mistake shows in the numbers."""

import json

import torch
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForMaskedLM, AutoModelForSequenceClassification, BertConfig, BertModel,
                          DistilBertConfig, RobertaConfig)

LABELS = {0: "alpha", 1: "beta", 2: "gamma"}
NAMED = {"id2label": LABELS, "label2id": {name: i for i, name in LABELS.items()}}
DROP = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SIZE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48, **DROP}

# Positions beyond those of texts, for virtual tokens.
SPARE = 6
# Vocabularies are no multiples of 64, so that padding one inside a program is tested too.
CONFIGS = {
    "bert": BertConfig(vocab_size=211, max_position_embeddings=64 + SPARE, type_vocab_size=2, layer_norm_eps=1e-12,
                       pad_token_id=0, **SIZE),
    "roberta": RobertaConfig(vocab_size=257, max_position_embeddings=66 + SPARE, type_vocab_size=1, layer_norm_eps=1e-5,
                             pad_token_id=1, bos_token_id=0, eos_token_id=2, **SIZE),
    "distilbert": DistilBertConfig(vocab_size=233, max_position_embeddings=64 + SPARE, dim=32, n_layers=3, n_heads=4,
                                   hidden_dim=48, dropout=0.0, attention_dropout=0.0, qa_dropout=0.0,
                                   seq_classif_dropout=0.0, pad_token_id=0),
}


def randomise(model, generator):
    """Draws every parameter anew, wide; the padding row of the embeddings too, which nobody may read."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("position_embeddings.weight"):  # drawn apart: the rest is as it would be without them
                value[-SPARE:] = 0.2 * torch.empty(SPARE, value.shape[1]).normal_(generator=torch.Generator().manual_seed(1))
                value = value[:-SPARE]
            noise = torch.empty_like(value).normal_(generator=generator)
            is_scale = value.ndim == 1 and name.endswith("weight")
            value.copy_(1 + 0.3 * noise if is_scale else 0.2 * noise)


def tiny(name):
    """A masked-language model and a classifier that share their encoder's weights."""
    config, generator = CONFIGS[name], torch.Generator().manual_seed(len(name))
    mlm = AutoModelForMaskedLM.from_config(config, attn_implementation="eager").eval()
    labelled = type(config)(**{**config.to_dict(), **NAMED})
    cls = AutoModelForSequenceClassification.from_config(labelled, attn_implementation="eager").eval()
    randomise(mlm, generator)
    randomise(cls, generator)
    # Not strict: BERT's pooler is in the classifier only.
    cls.base_model.load_state_dict(mlm.base_model.state_dict(), strict=False)
    return mlm, cls


def write_bare(cls, out):
    """The encoder alone: no prefix, no head."""
    bare = BertModel(cls.config)
    bare.load_state_dict(cls.base_model.state_dict())
    bare.save_pretrained(out)


def write_old(mlm_dir, out):
    """The same checkpoint as old files spell it: gamma and beta, position ids, the tied decoder spelt out."""
    spelling = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    old = {}
    for name, value in load_file(mlm_dir / "model.safetensors").items():
        for new, was in spelling.items():
            name = name.replace(new, was)
        old[name] = value
    config = json.loads((mlm_dir / "config.json").read_text())
    old["bert.embeddings.position_ids"] = torch.arange(config["max_position_embeddings"])[None]
    old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"].clone()
    old["cls.predictions.decoder.bias"] = old["cls.predictions.bias"].clone()
    out.mkdir(parents=True, exist_ok=True)
    save_file(old, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(config, indent=2))
