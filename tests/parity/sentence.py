"""sentence.py MODEL TEXTS OUT: vectors of JSON lines as sentence-transformers makes them, with the model's own settings.

It is taken from .venv/bench, where `make bench` puts it; without it, transformers and the mean over tokens, scaled, of
256 of them at most, which is what MiniLM's settings say.
"""

import json
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / ".venv/bench"
if BENCH.exists():
    sys.path.insert(0, str(BENCH))

import torch
from safetensors.torch import save_file


def by_hand(model, texts):
    from transformers import AutoModel, AutoTokenizer
    tokenizer, encoder = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model).eval()
    for text in texts:
        inputs = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.no_grad():
            mean = encoder(**inputs).last_hidden_state[0].mean(0)
        yield torch.nn.functional.normalize(mean, dim=0)


def main(model, texts, out):
    texts = [json.loads(line)["text"] for line in Path(texts).read_text().splitlines()]
    try:
        from sentence_transformers import SentenceTransformer
        vectors = SentenceTransformer(model, device="cpu").encode(texts, convert_to_tensor=True)
    except ImportError:
        print("sentence-transformers is not installed: its mean is taken by hand", file=sys.stderr)
        vectors = torch.stack(list(by_hand(model, texts)))
    save_file({"embeddings": vectors.float().contiguous()}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
