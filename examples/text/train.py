"""Which library does a sentence of documentation come from? A small transformer, its tokenizer, weights and data.

python train.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from corpus import LABELS, corpus
from safetensors.torch import save_file
from torch import Tensor, nn

import shipworthy

if TYPE_CHECKING:
    from tokenizers import Tokenizer

HERE = Path(__file__).parent
LENGTH = 128
"""Most tokens of a text; longer ones are cut."""
VOCABULARY = 4000
TRAIN = 0.75
"""Share of the texts; the others are for the build to measure with."""
EPOCHS = 6
BUCKET = 16
"""The data is padded to multiples of so many tokens."""


class Library(nn.Module):
    """Scores [n, labels] of token ids [n, tokens] and their mask [n, tokens], 1 where a token is a real one.

    Padding is harmless: no token attends to it, and the mean leaves it out."""

    def __init__(self, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.words = nn.Embedding(VOCABULARY, width)
        self.places = nn.Parameter(0.02 * torch.randn(LENGTH, width))
        self.before = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.mixed = nn.Linear(width, width)
        self.between = nn.LayerNorm(width)
        self.inner = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(width, len(LABELS))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        real = attention_mask > 0
        x = self.drop(self.words(input_ids) + self.places[: input_ids.shape[1]])
        x = x + self.attention(self.before(x), real)
        x = x + self.inner(self.between(x))
        weight = real.to(x.dtype).unsqueeze(-1)
        mean = (x * weight).sum(1) / weight.sum(1).clamp(min=1.0)
        return self.head(self.drop(mean))

    def attention(self, x: Tensor, real: Tensor) -> Tensor:
        n, tokens, width = x.shape
        parts = self.queries_keys_values(x).view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        # -1e4 and not -inf: a text whose mask is 0 throughout would become NaN.
        hidden = torch.where(real, 0.0, -1e4).to(x.dtype)[:, None, None, :]
        y = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=hidden)
        return self.mixed(y.transpose(1, 2).reshape(n, tokens, width))


def build_model() -> nn.Module:
    """What the contract names: the network without its weights."""
    return Library()


def validation() -> list[dict[str, np.ndarray]]:
    """What the contract names: the texts that were kept back, in batches of one length each, with some padding.

    They go through the tokenizer file that the package will have."""
    from tokenizers import Tokenizer

    with np.load(HERE / "validation.npz") as file:
        texts, labels = file["text"].tolist(), file["label"]
    rows = tokens(Tokenizer.from_file(str(HERE / "tokenizer.json")), texts)
    lengths = np.array([-(-len(row) // BUCKET) * BUCKET for row in rows])
    buckets = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
    return [{**padded([rows[row] for row in bucket], BUCKET), "label": labels[bucket]} for bucket in buckets]


def tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, LENGTH of them at most."""
    return [encoding.ids[:LENGTH] for encoding in tokenizer.encode_batch(list(texts))]


def padded(rows: Sequence[Sequence[int]], multiple: int = 1) -> dict[str, np.ndarray]:
    """The model's inputs, int64 [n, tokens], where tokens is the longest row's length or the next `multiple`."""
    length = -(-max(map(len, rows)) // multiple) * multiple
    ids, mask = np.zeros((2, len(rows), length), dtype=np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def train_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Byte-level BPE, which takes any text. [CLS] comes first, so that even an empty one has a token."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["[PAD]", "[CLS]"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    return tokenizer


def scores(model: nn.Module, feeds: dict[str, np.ndarray]) -> Tensor:
    answer = model(torch.from_numpy(feeds["input_ids"]), torch.from_numpy(feeds["attention_mask"]))
    assert isinstance(answer, Tensor)
    return answer


def fit(model: Library, rows: Sequence[Sequence[int]], labels: np.ndarray) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(rows)).split(32):
            optimizer.zero_grad()
            found = scores(model, padded([rows[row] for row in batch.tolist()]))
            nn.functional.cross_entropy(found, torch.from_numpy(labels[batch.numpy()])).backward()
            optimizer.step()


def main() -> None:
    shipworthy.set_seed(0)
    # Layers so small leave a second thread little but waiting.
    torch.set_num_threads(1)
    texts, labels = (np.array(column) for column in corpus())
    order = np.random.default_rng(0).permutation(len(texts))
    seen, kept = np.split(order, [int(TRAIN * len(order))])
    tokenizer = train_tokenizer(texts[seen].tolist())
    tokenizer.save(str(HERE / "tokenizer.json"))
    np.savez_compressed(HERE / "validation.npz", text=texts[kept], label=labels[kept])
    model = Library()
    fit(model, tokens(tokenizer, texts[seen].tolist()), labels[seen])
    save_file(model.eval().state_dict(), HERE / "text.safetensors")
    with torch.inference_mode():
        right = [scores(model, batch).argmax(1).numpy() == batch["label"] for batch in validation()]
    print(f"{np.concatenate(right).mean():.1%} of {len(kept)} texts that it has not seen are placed rightly")


if __name__ == "__main__":
    main()
