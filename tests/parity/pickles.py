"""Writes files as older libraries did, for our programs to refuse and to say what to do: pickles.py FROM OUT.

FROM is the directory of one of fixtures.py's models. OUT/lora, OUT/hub_lora, OUT/cls and OUT/mlm are the same with pickles in
the place of safetensors.
"""

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM
from transformers.utils import logging

NAMES = {"adapter_model.safetensors": "adapter_model.bin", "adapter.safetensors": "pytorch_adapter.bin",
         "model_head.safetensors": "pytorch_model_head.bin", "model.safetensors": "pytorch_model.bin"}


def main():
    source, out = map(Path, sys.argv[1:])
    logging.set_verbosity_error()
    for kind in ("lora", "hub_lora", "cls", "mlm"):
        shutil.copytree(source / kind, out / kind)
        for safe in (out / kind).glob("*.safetensors"):
            tensors = load_file(safe)
            if kind == "mlm":  # with the tied decoder, which a pickle may hold a second time
                tensors = AutoModelForMaskedLM.from_pretrained(source / kind).state_dict()
            torch.save(tensors, safe.with_name(NAMES[safe.name]))
            safe.unlink()


if __name__ == "__main__":
    main()
