"""Whole courses of the learning rate from transformers' get_scheduler, as JSON lines of {flags, total, rates}.

A plateau's line has the scores its rate was told, one a step, and whether more of them is better.
"""

import json

import torch
from transformers import get_inverse_sqrt_schedule, get_scheduler

LR = 3e-4
TOTAL = 40
MIN_LR = 3e-5

# Our flags, and theirs: name, warm-up, further arguments.
COURSES = [
    (["linear", "--warmup", "7"], ("linear", 7, {})),
    (["linear", "--warmup", "0"], ("linear", 0, {})),
    (["cosine", "--warmup", "7"], ("cosine", 7, {})),
    (["cosine", "--warmup", "0.1", "--cycles", "1.25"], ("cosine", 4, {"num_cycles": 1.25})),
    (["cosine_with_restarts", "--warmup", "7"], ("cosine_with_restarts", 7, {})),
    (["cosine_with_restarts", "--warmup", "5", "--cycles", "3"], ("cosine_with_restarts", 5, {"num_cycles": 3})),
    (["polynomial", "--warmup", "7"], ("polynomial", 7, {})),
    (["polynomial", "--warmup", "7", "--power", "2", "--min-lr", str(MIN_LR)],
     ("polynomial", 7, {"power": 2.0, "lr_end": MIN_LR})),
    (["constant"], ("constant", 0, {})),
    (["constant_with_warmup", "--warmup", "7"], ("constant_with_warmup", 7, {})),
    (["inverse_sqrt", "--warmup", "7"], ("inverse_sqrt", 7, {})),
    (["inverse_sqrt", "--warmup", "0"], ("inverse_sqrt", 0, {})),
    (["inverse_sqrt", "--warmup", "7", "--timescale", "20"], ("inverse_sqrt", 7, {"timescale": 20})),
    (["cosine_with_min_lr", "--warmup", "7", "--min-lr", str(MIN_LR)], ("cosine_with_min_lr", 7, {"min_lr": MIN_LR})),
    (["cosine_with_min_lr", "--warmup", "7", "--min-lr", str(MIN_LR), "--cycles", "2"],
     ("cosine_with_min_lr", 7, {"min_lr": MIN_LR, "num_cycles": 2.0})),
    (["cosine_warmup_with_min_lr", "--warmup", "7", "--min-lr", str(MIN_LR)],
     ("cosine_warmup_with_min_lr", 7, {"min_lr": MIN_LR})),
    (["cosine_warmup_with_min_lr", "--warmup", "0", "--min-lr", str(MIN_LR)],
     ("cosine_warmup_with_min_lr", 0, {"min_lr": MIN_LR})),
    (["warmup_stable_decay", "--warmup", "7", "--decay", "11"], ("warmup_stable_decay", 7, {"num_decay_steps": 11})),
    (["warmup_stable_decay", "--warmup", "7", "--decay", "0.25", "--min-lr", str(MIN_LR), "--decay-type", "linear"],
     ("warmup_stable_decay", 7, {"num_decay_steps": 10, "min_lr_ratio": MIN_LR / LR, "decay_type": "linear"})),
    (["warmup_stable_decay", "--warmup", "7", "--decay", "11", "--decay-type", "1-sqrt"],
     ("warmup_stable_decay", 7, {"num_decay_steps": 11, "decay_type": "1-sqrt"})),
]

PLATEAUS = [
    (["--plateau-patience", "2"], {"mode": "max", "patience": 2}),
    (["--plateau-patience", "0", "--plateau-factor", "0.5", "--min-lr", str(MIN_LR)],
     {"mode": "min", "patience": 0, "factor": 0.5, "min_lr": MIN_LR}),
]


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)


def course(name, warmup, more):
    own = optimizer()
    if "timescale" in more:  # get_scheduler drops it
        schedule = get_inverse_sqrt_schedule(own, warmup, **more)
    else:
        schedule = get_scheduler(name, own, warmup, TOTAL, scheduler_specific_kwargs=more)
    rates = []
    for _ in range(TOTAL):
        rates.append(schedule.get_last_lr()[0])
        own.step()
        schedule.step()
    return rates


def plateau(options, scores):
    own = optimizer()
    schedule = get_scheduler("reduce_lr_on_plateau", own, scheduler_specific_kwargs=options)
    rates = []
    for score in scores:
        rates.append(own.param_groups[0]["lr"])
        schedule.step(score)
    return rates


def main():
    for flags, theirs in COURSES:
        print(json.dumps({"flags": ["--schedule", *flags, "--lr", str(LR)], "total": TOTAL, "rates": course(*theirs)}))
    draw = torch.Generator().manual_seed(5)
    scores = (0.8 + 0.01 * torch.randn(TOTAL, generator=draw, dtype=torch.float64)).tolist()
    for flags, options in PLATEAUS:
        flags = ["--schedule", "reduce_lr_on_plateau", *flags, "--lr", str(LR)]
        print(json.dumps({"flags": flags, "total": TOTAL, "rates": plateau(options, scores), "scores": scores,
                          "more": options["mode"] == "max"}))


if __name__ == "__main__":
    main()
