"""The Python side of `make bench`: transformers training on our shard, one JSON line a step.

peer_bench.py mlm|finetune MODEL_DIR SHARD --steps N. The same sequences as our programs, in file order; what the
Trainer does by default otherwise: padding to the longest of the batch, the head over all positions, sdpa attention,
the model's own dropout, fused AdamW, a linear schedule, clipping at 1. A step's time includes collating its batch.
"""

import argparse
import contextlib
import json
import statistics
import time
from pathlib import Path

import torch
from transformers import DataCollatorForLanguageModeling, DataCollatorWithPadding, get_linear_schedule_with_warmup

from peer import device, features, label_names, load_model, load_tokenizer


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["mlm", "finetune"])
    parser.add_argument("model", type=Path)
    parser.add_argument("shard", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--warmup", type=int, default=2, help="first steps left out of the median")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--device", default="cpu", help="auto, cpu or cuda")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="bf16: autocast, as Trainer --bf16")
    parser.add_argument("--threads", type=int, help="default: torch's own choice")
    args = parser.parse_args()
    if args.steps <= args.warmup:
        parser.error("--steps must be more than --warmup")
    return args


def make_optimizer(model, lr, steps):
    """The Trainer's: no decay for biases and LayerNorm."""
    groups = [{"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.01},
              {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, fused=True)
    return optimizer, get_linear_schedule_with_warmup(optimizer, 0, steps)


def batches(rows, collate, size, steps):
    """Batches in file order, from the start again at the end, each with its count of real tokens."""
    starts = [at for at in range(0, len(rows), size) if at + size <= len(rows)] or [0]
    for step in range(steps):
        at = starts[step % len(starts)]
        chosen = rows[at:at + size]
        yield collate(chosen), sum(len(row["input_ids"]) for row in chosen)


def collator(kind, tokenizer):
    if kind == "mlm":
        return DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    pad = DataCollatorWithPadding(tokenizer)
    return lambda rows: pad([{k: v for k, v in row.items() if k != "special_tokens_mask"} for row in rows])


def clock(where):
    if where.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def train(args, model, optimizer, schedule, feed, where):
    """Yields the seconds and real tokens of each step."""
    mixed = torch.autocast(where.type, torch.bfloat16) if args.dtype == "bf16" else contextlib.nullcontext()
    begin = clock(where)
    for inputs, tokens in feed:
        with mixed:
            loss = model(**{name: value.to(where) for name, value in inputs.items()}).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        end = clock(where)
        yield end - begin, tokens
        begin = clock(where)


def main():
    args = parse()
    torch.manual_seed(0)
    if args.threads:
        torch.set_num_threads(args.threads)
    where, tokenizer = device(args.device), load_tokenizer(args.model)
    names = label_names(args.shard) if args.kind == "finetune" else None
    model = load_model(args.kind, args.model, names).to(where).train()
    rows = features(args.shard, model.config, tokenizer, limit=args.steps * args.batch)
    if args.kind == "mlm":
        rows = [{k: v for k, v in row.items() if k != "labels"} for row in rows]
    optimizer, schedule = make_optimizer(model, args.lr, args.steps)
    feed = batches(rows, collator(args.kind, tokenizer), args.batch, args.steps)
    rates = []
    for step, (seconds, tokens) in enumerate(train(args, model, optimizer, schedule, feed, where), 1):
        print(json.dumps({"step": step, "seconds": round(seconds, 6), "tokens": tokens}), flush=True)
        rates.append(tokens / seconds)
    print(json.dumps({"tokens_per_s": round(statistics.median(rates[args.warmup:]), 1)}), flush=True)


if __name__ == "__main__":
    main()
