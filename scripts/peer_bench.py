"""The Python side of `make bench`, on our shard; the last line is JSON with a rate.

peer_bench.py mlm|full|lora|head MODEL SHARD --steps N: training, real tokens a second, median of the steps. The same
sequences as our programs, in file order; what the Trainer does by default otherwise: padding to the longest of the batch,
the head over all positions, sdpa attention, the model's own dropout, fused AdamW, a linear schedule, clipping at 1. LoRA is
peft's, on query and value, rank 8. A step's time includes collating its batch. bf16 is autocast, as Trainer's `--bf16`.

peer_bench.py embed MODEL SHARD --texts FILE: sentence-transformers, texts a second, loading left out.
peer_bench.py predict MODEL SHARD: one text on standard input, answered as transformers' pipeline does.
peer_bench.py texts MODEL SHARD --out FILE: the texts of a shard, a line each.
peer_bench.py count MODEL SHARD: its tokens and its sequences.
peer_bench.py limit - -: the best rate of products in each dtype that the device multiplies itself, as JSON.
"""

import argparse
import contextlib
import json
import statistics
import sys
import time
from pathlib import Path

# Newer than what the parity tests compare with, see scripts/bench-requirements.txt.
sys.path.insert(0, ".venv/bench")

import torch  # noqa: E402

KINDS = ["mlm", "full", "lora", "head", "embed", "predict", "texts", "count", "limit"]


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("model", type=Path)
    parser.add_argument("shard", type=Path)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--warmup", type=int, default=2, help="first steps left out of the median")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--device", default="cpu", help="auto, cpu or cuda")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--compile", action="store_true", help="train what torch.compile makes of the model")
    parser.add_argument("--threads", type=int, help="default: torch's own choice")
    return parser.parse_args()


def make_optimizer(model, lr, steps):
    """The Trainer's: no decay for biases and LayerNorm."""
    from transformers import get_linear_schedule_with_warmup
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": [p for p in trained if p.ndim >= 2], "weight_decay": 0.01},
              {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, fused=True)
    return optimizer, get_linear_schedule_with_warmup(optimizer, 0, steps)


def load(kind, directory, shard):
    from peft import LoraConfig, TaskType, get_peft_model

    from peer import label_names, load_model
    if kind == "mlm":
        return load_model("mlm", directory)
    model = load_model("finetune", directory, label_names(shard))
    if kind == "head":
        for parameter in model.base_model.parameters():
            parameter.requires_grad_(False)
    return get_peft_model(model, LoraConfig(TaskType.SEQ_CLS, r=8, lora_alpha=16)) if kind == "lora" else model


def batches(rows, collate, size, steps):
    """Batches in file order, from the start again at the end, each with its count of real tokens."""
    starts = [at for at in range(0, len(rows), size) if at + size <= len(rows)] or [0]
    for step in range(steps):
        at = starts[step % len(starts)]
        chosen = rows[at:at + size]
        yield collate(chosen), sum(len(row["input_ids"]) for row in chosen)


def collator(kind, tokenizer):
    from transformers import DataCollatorForLanguageModeling, DataCollatorWithPadding
    if kind == "mlm":
        return DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    pad = DataCollatorWithPadding(tokenizer)
    return lambda rows: pad([{k: v for k, v in row.items() if k != "special_tokens_mask"} for row in rows])


def clock(where):
    if where.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def steps(args, model, optimizer, schedule, feed, where):
    """Yields the real tokens a second of each step."""
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
        yield tokens / (clock(where) - begin)
        begin = clock(where)


def train(args):
    from peer import device, features, load_tokenizer
    where, tokenizer = device(args.device), load_tokenizer(args.model)
    model = load(args.kind, args.model, args.shard).to(where).train()
    rows = features(args.shard, model.config, tokenizer, limit=args.steps * args.batch)
    if args.kind == "mlm":
        rows = [{k: v for k, v in row.items() if k != "labels"} for row in rows]
    model = torch.compile(model) if args.compile else model
    optimizer, schedule = make_optimizer(model, args.lr, args.steps)
    feed = batches(rows, collator(args.kind, tokenizer), args.batch, args.steps)
    rates = list(steps(args, model, optimizer, schedule, feed, where))
    return statistics.median(rates[args.warmup:])


def embed(args):
    from sentence_transformers import SentenceTransformer
    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    model = SentenceTransformer(str(args.model), device=args.device, model_kwargs={"dtype": dtype})
    model.max_seq_length = 512
    texts = args.texts.read_text().split("\n")[:-1]
    model.encode(texts[:args.batch], batch_size=args.batch)
    begin = time.perf_counter()
    model.encode(texts, batch_size=args.batch, normalize_embeddings=True, show_progress_bar=False)
    return len(texts) / (time.perf_counter() - begin)


def predict(args):
    from transformers import pipeline
    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    answer = pipeline("text-classification", str(args.model), dtype=dtype, device=args.device)
    return [answer(line.strip()) for line in sys.stdin]


def texts(args):
    from peer import load_tokenizer
    from shard import sequences
    tokenizer = load_tokenizer(args.model)
    lines = [tokenizer.decode(row[1].tolist(), skip_special_tokens=True) for row in sequences(args.shard)]
    lines = [" ".join(line.split()) for line in lines]
    args.out.write_text("".join(f"{line}\n" for line in lines))


def count(args):
    from peer import load_tokenizer  # noqa: F401  its folder of readers
    from shard import sequences
    lengths = [len(row[1]) for row in sequences(args.shard)]
    print(sum(lengths), len(lengths))


def limit(args):
    """The best of some shapes that encoders have, by LibTorch and on the CPU by oneDNN."""
    from peer import device
    where = device(args.device)
    def rate(dtype, tokens, inner, outer):
        sizes = [(tokens, inner), (outer, inner), (outer,)]
        xs, weight, bias = (torch.randn(size).to(where, dtype) for size in sizes)
        sides = [lambda: torch.nn.functional.linear(xs, weight, bias)]
        if where.type == "cpu":
            sides.append(lambda: torch.ops.mkldnn._linear_pointwise(xs, weight, bias, "none", [], ""))
        best = 0
        for side in sides * 12:
            begin = clock(where)
            side()
            best = max(best, 2 * tokens * inner * outer / (clock(where) - begin))
        return best
    if where.type == "cuda":
        native, tokens = torch.cuda.get_device_capability(where) >= (8, 0), 16384
    else:
        flags = Path("/proc/cpuinfo")
        native, tokens = flags.exists() and "avx512_bf16" in flags.read_text(), 2048
    dtypes = {"f32": torch.float32, **({"bf16": torch.bfloat16} if native else {})}
    shapes = [(tokens, 384, 1536), (tokens, 768, 3072), (tokens, 1024, 1024)]
    print(json.dumps({name: max(rate(dtype, *shape) for shape in shapes) for name, dtype in dtypes.items()}))


def main():
    args = parse()
    torch.manual_seed(0)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.kind == "limit":
        return limit(args)
    if args.kind in ("texts", "count"):
        return {"texts": texts, "count": count}[args.kind](args)
    rate = {"embed": embed, "predict": predict}.get(args.kind, train)(args)
    print(json.dumps({"rate": rate}), flush=True)


if __name__ == "__main__":
    main()
