"""Does transformers read what tapt wrote, and compute the same? check.py mlm|cls|lora|adapterhub DIR IO [--base DIR].
check.py list FILE takes them from JSON lines with kind, dir, io and base.

IO is a safetensors file with one batch (`ids`, `lengths`, `second`) and our `logits` for it: at `masked` for a
masked-language model, per sequence otherwise. One JSON line and status 0, or the reason and status 1.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification
from transformers.utils import logging

import adapterhub
from batch import class_logits, pad, unpad

TIED = ("decoder.weight", "decoder.bias", "vocab_projector.weight")
OPTIONS = {"attn_implementation": "eager", "dtype": torch.float32}


def fail(message):
    sys.exit(f"check: {message}")


def load_plain(auto, directory):
    """A whole checkpoint. Nothing may be missing, left over, of another shape or drawn at random."""
    model, info = auto.from_pretrained(directory, output_loading_info=True, **OPTIONS)
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        found = [key for key in info[what] if not str(key).endswith(TIED)]
        if found:
            fail(f"{directory}: {what}: {found}")
    # Renamed and ignored tensors are in none of those lists: hold the names against the parameters' own.
    in_file = set(load_file(directory / "model.safetensors"))
    own = {name for name, _ in model.named_parameters()}
    odd = [name for name in in_file ^ own if not name.endswith(TIED)]
    if odd:
        fail(f"{directory}: names transformers would not write itself, or would write too: {sorted(odd)}")
    return model


def head_size(saved):
    """How many classes the adapter's head has: the rows of its last layer."""
    last = [v for k, v in saved.items() if k.endswith(("classifier.weight", "out_proj.weight"))
            and "pre_classifier" not in k]
    return last[0].shape[0] if last else fail("no head in the adapter")


def load_adapter(directory, base_dir):
    """An adapter on its base. Every tensor of the file must be used, and nothing may be left as it was drawn."""
    saved = load_file(directory / "adapter_model.safetensors")
    if PeftConfig.from_pretrained(directory).task_type == "SEQ_CLS":
        auto, options = AutoModelForSequenceClassification, {"num_labels": head_size(saved), **OPTIONS}
    else:
        auto, options = AutoModelForMaskedLM, OPTIONS
    base, info = auto.from_pretrained(base_dir, output_loading_info=True, ignore_mismatched_sizes=True, **options)
    # The base need not have the head, but then the adapter must bring it; BERT's pooler likewise.
    drawn = set(info["missing_keys"]) | {key for key, *_ in info["mismatched_keys"]}
    lost = [key for key in drawn if not key.endswith(TIED) and not any(name.endswith(f".{key}") for name in saved)]
    if lost:
        fail(f"neither {base_dir} nor {directory} has: {sorted(lost)}")
    try:
        model = PeftModel.from_pretrained(base, directory)
    except (KeyError, RuntimeError, ValueError) as error:  # a missing head is a KeyError, a wrong shape a RuntimeError
        fail(f"{directory}: peft cannot load it: {error!r}")
    loaded = get_peft_model_state_dict(model)
    # A head that peft has no name for in the config it loads into the base.
    loaded |= {name: value for name, value in model.state_dict().items() if name in saved and name not in loaded}
    check_adapter(directory, saved, loaded)
    return model


def check_adapter(directory, saved, loaded):
    """PEFT only warns about missing tensors and drops unknown ones: compare what it holds with the file."""
    if set(loaded) != set(saved):
        fail(f"{directory}: not in the file: {sorted(set(loaded) - set(saved))}; "
             f"not in the model: {sorted(set(saved) - set(loaded))}")
    for name, value in saved.items():
        if not torch.equal(loaded[name].float(), value.float()):
            fail(f"{directory}: {name} was not loaded")
        untrained = (name.endswith("lora_B.weight") and not value.any()) or (".ia3_l" in name and (value == 1).all())
        if untrained:
            fail(f"{directory}: {name} is as it was initialised")


def compute(model, io, masked_lm):
    """The logits transformers has for the batch, in our layout."""
    second = io.get("second", torch.zeros_like(io["lengths"])).long()
    inputs = pad(io["ids"].long(), io["lengths"].long(), second, model.config)
    with torch.no_grad():
        if not masked_lm:
            return class_logits(model.eval(), inputs)
        if getattr(model, "active_peft_config", None) and model.active_peft_config.peft_type == "TRAINABLE_TOKENS":
            model = model.merge_and_unload()  # beside the base, peft 0.21 forgets the bias of a tied decoder
        logits = model.eval()(**inputs).logits
    return unpad(logits, inputs)[io["masked"].long()]


def compare(theirs, ours, tolerance):
    """The largest difference; more than the tolerance, or than that share of the largest where it is above 1, or anything
    not a number, fails and says where."""
    if theirs.shape != ours.shape:
        fail(f"logits are {list(ours.shape)}, transformers has {list(theirs.shape)}")
    difference = (theirs - ours.float()).abs().nan_to_num(float("inf"))
    worst = difference.max().item()
    tolerance *= max(1.0, theirs.abs().max().item())
    if not worst <= tolerance:
        row, column = divmod(difference.argmax().item(), ours.shape[1])
        fail(f"logits differ by up to {worst:.3g} (allowed {tolerance:g}), most at [{row}, {column}]: "
             f"ours {ours[row, column]:.7g}, transformers {theirs[row, column]:.7g}; "
             f"{(difference > tolerance).sum().item()} of {ours.numel()} are beyond")
    return worst


def check(kind, directory, io_path, base, tolerance):
    if kind == "adapterhub":
        model = adapterhub.load(directory, base)
    elif kind == "lora":
        model = load_adapter(directory, base)
    else:
        auto = AutoModelForMaskedLM if kind == "mlm" else AutoModelForSequenceClassification
        model = load_plain(auto, directory)
    io = load_file(io_path)
    try:
        worst = compare(compute(model, io, "masked" in io), io["logits"], tolerance)
    except SystemExit as error:
        fail(f"{directory}: {error}")
    names = {} if "masked" in io else {"id2label": model.config.id2label, "problem_type": model.config.problem_type}
    print(json.dumps({"kind": kind, "dir": str(directory), "logits": list(io["logits"].shape),
                      "max_abs_diff": worst, "of": max(1.0, io["logits"].abs().max().item()), **names}))


def apart(call, *arguments):
    """Calls in a process of its own, which needs not import anything again: the libraries change each other's models."""
    child = os.fork()
    if child == 0:
        try:
            call(*arguments)
            status = 0
        except BaseException as error:  # whatever it is, this process must not go on as its parent
            print(f"check: {error!r}", file=sys.stderr)
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    if os.waitpid(child, 0)[1] != 0:
        fail(f"{arguments[1]} is not what it should be")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["mlm", "cls", "lora", "adapterhub", "list"])
    parser.add_argument("dir", type=Path)
    parser.add_argument("io", type=Path, nargs="?")
    parser.add_argument("--base", type=Path, help="the model under an adapter")
    parser.add_argument("--tolerance", type=float, default=1e-5)
    args = parser.parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(2)
    if args.kind == "list":
        for line in args.dir.read_text().splitlines():
            one = json.loads(line)
            apart(check, one["kind"], Path(one["dir"]), Path(one["io"]), Path(one["base"]), args.tolerance)
        return
    if args.kind in ("lora", "adapterhub") and not args.base:
        parser.error(f"{args.kind} needs --base")
    check(args.kind, args.dir, args.io or parser.error("IO is wanted"), args.base, args.tolerance)


if __name__ == "__main__":
    main()
