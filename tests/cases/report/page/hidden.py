"""Writes hidden states as embed does, [30, 3, 4], of two classes that part from layer to layer: hidden.py FILE [APART [ROW]]."""

import json
import struct
import sys

texts, layers, width = 30, 3, 4
more = float(sys.argv[2]) if len(sys.argv) > 2 else 1
first = int(sys.argv[3]) if len(sys.argv) > 3 else 0


def value(i, layer, at):
    apart = 3 * more * layer * (1 if i % 2 else -1) if at == 0 else 0
    return apart + (i * 7 + at * 5 + layer * 3) % 11 / 11


numbers = [value(i, layer, at) for i in range(texts) for layer in range(layers) for at in range(width)]
states = struct.pack(f"<{len(numbers)}f", *numbers)
rows = struct.pack(f"<{texts}Q", *range(first, first + texts))
labels = struct.pack(f"<{texts}q", *(i % 2 for i in range(texts)))
names = json.dumps(["World", "<script>alert(1)</script>"]).encode()
header, end = {}, 0
for name, dtype, shape, data in [
    ("embeddings", "F32", [texts, layers, width], states),
    ("rows", "U64", [texts], rows),
    ("labels", "I64", [texts], labels),
    ("label_names", "U8", [len(names)], names),
]:
    header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(data)]}
    end += len(data)
header = json.dumps(header).encode()
with open(sys.argv[1], "wb") as file:
    file.write(struct.pack("<Q", len(header)) + header + states + rows + labels + names)
