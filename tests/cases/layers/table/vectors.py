"""Writes vectors as embed --layer all does: vectors.py FILE [NAME=NUMBER …]. Classes part from layer to layer."""

import json
import struct
import sys

given = {"texts": 30, "layers": 3, "width": 4, "classes": 2, "apart": 0.2, "first": 0, "shift": 0}
given |= {name: float(value) for name, value in (text.split("=") for text in sys.argv[2:])}
texts, layers, width, classes, first = (int(given[name]) for name in ["texts", "layers", "width", "classes", "first"])
gold = [(i + int(given["shift"])) % max(classes, 1) for i in range(texts)]
if "rare" in given:  # one text in a class of its own
    gold[-1] = classes
names = [["World", "Sports", "Business", "Sci/Tech"][(c + int(given.get("named", 0))) % 4] for c in range(max(classes, 1) + 1)]


def value(i, layer, at):
    if "nan" in given and (i, layer, at) == (5, 1, 2):
        return float("nan")
    if "same" in given and layer == 1:
        return 0.1
    return given["apart"] * layer * gold[i] * (at == 0) + (i * 7 + at * 5 + i * i * at + layer * 3) % 11 / 11


numbers = [value(i, layer, at) for i in range(texts) for layer in range(layers) for at in range(width)]
shape = [texts, width] if layers == 1 else [texts, layers, width]
tensors = [
    ("embeddings", "F32", shape, struct.pack(f"<{len(numbers)}f", *numbers)),
    ("rows", "U64", [texts], struct.pack(f"<{texts}Q", *range(first, first + texts))),
]
if classes:
    text = json.dumps(names).encode()
    tensors += [
        ("labels", "I64", [texts], struct.pack(f"<{texts}q", *gold)),
        ("label_names", "U8", [len(text)], text),
    ]
if "tokens" in given:
    tensors.append(("offsets", "U64", [texts + 1], struct.pack(f"<{texts + 1}Q", *range(texts + 1))))
header, end = {}, 0
for name, dtype, shape, data in tensors:
    header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(data)]}
    end += len(data)
header = json.dumps(header).encode()
with open(sys.argv[1], "wb") as file:
    file.write(struct.pack("<Q", len(header)) + header + b"".join(data for *_, data in tensors))
