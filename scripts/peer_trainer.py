"""Fine-tuning with transformers' Trainer on our shards, to compare scores: one JSON line.

peer_trainer.py MODEL_DIR TRAIN_SHARD TEST_SHARD: the very same tokens and labels, a linear schedule with warm-up,
clipping at 1, padding to the longest of the batch; scored once, after the last step.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments, set_seed

from peer import features, label_names, load_model, load_tokenizer


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--max-steps", type=int, default=-1, help="instead of --epochs")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-5)
    parser.add_argument("--warmup", type=float, default=0.06, help="share of all steps")
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=["auto", "cpu"], default="auto")
    parser.add_argument("--bf16", action="store_true", help="autocast (default f32)")
    parser.add_argument("--threads", type=int, help="default: torch's own choice")
    return parser.parse_args()


def wilson(right, n, z=1.959964):
    """The 95 % interval of a share."""
    p, scale = right / n, 1 + z * z / n
    middle = (p + z * z / (2 * n)) / scale
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale
    return [round(middle - half, 6), round(middle + half, 6)]


def macro_f1(gold, pred, classes):
    """The mean over the classes that occur in gold or prediction, as scikit-learn has it."""
    scores = []
    for c in range(classes):
        hit, gold_c, pred_c = ((gold == c) & (pred == c)).sum(), (gold == c).sum(), (pred == c).sum()
        if gold_c + pred_c:
            scores.append(2 * hit / (gold_c + pred_c))
    return float(np.mean(scores))


def settings(args, folder):
    return TrainingArguments(
        output_dir=folder, num_train_epochs=args.epochs, max_steps=args.max_steps, learning_rate=args.lr,
        per_device_train_batch_size=args.batch, per_device_eval_batch_size=64, warmup_ratio=args.warmup,
        weight_decay=args.weight_decay, lr_scheduler_type="linear", max_grad_norm=1.0, seed=args.seed,
        bf16=args.bf16, use_cpu=args.device == "cpu", dataloader_pin_memory=torch.cuda.is_available(),
        save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True)


def read(path, names, config, tokenizer):
    if label_names(path) != names:
        sys.exit(f"peer: {path}: its labels are not those of the training shard")
    rows = features(path, config, tokenizer)
    return [{k: v for k, v in row.items() if k != "special_tokens_mask"} for row in rows]


def main():
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    set_seed(args.seed)  # before the model: its new head is drawn from this
    names, tokenizer = label_names(args.train), load_tokenizer(args.model)
    model = load_model("finetune", args.model, names)
    train, test = (read(path, names, model.config, tokenizer) for path in (args.train, args.test))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(model, settings(args, folder), DataCollatorWithPadding(tokenizer), train, test)
        trainer.remove_callback(PrinterCallback)  # standard output carries one line, ours
        begin = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begin
        result = trainer.predict(test)
    gold, pred = result.label_ids, result.predictions.argmax(-1)
    right, n = int((gold == pred).sum()), len(gold)
    print(json.dumps({"accuracy": right / n, "macro_f1": macro_f1(gold, pred, len(names)), "n": n,
                      "wilson95": wilson(right, n), "seconds": round(seconds, 3)}))


if __name__ == "__main__":
    main()
