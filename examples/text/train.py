"""Which data set does a sentence describe? A small transformer, its tokenizer, weights and data.

The texts are the descriptions that scikit-learn brings along with its data sets.

python train.py
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import shipworthy

if TYPE_CHECKING:
    from tokenizers import Tokenizer

HERE = Path(__file__).parent
LABELS = ("breast_cancer", "digits", "iris", "kddcup99", "lfw", "rcv1", "twenty_newsgroups", "wine_data")
LENGTH = 128
"""Most tokens of a text; longer ones are cut."""
VOCABULARY = 1200
EPOCHS = 40
CUTS = 6
"""Pieces that are cut from each text of the training set, for each epoch."""


class Topic(nn.Module):
    """Scores [n, labels] of token ids [n, tokens] and their mask [n, tokens], 1 where a token is a real one."""

    def __init__(self, vocabulary: int = VOCABULARY, width: int = 96, heads: int = 4, labels: int = len(LABELS)) -> None:
        super().__init__()
        self.heads = heads
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(LENGTH, width)
        self.before = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.mixed = nn.Linear(width, width)
        self.between = nn.LayerNorm(width)
        self.inner = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(width, labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        real = attention_mask > 0
        x = self.words(input_ids) + self.places.weight[: input_ids.shape[1]]
        x = x + self.drop(self.attention(self.before(x), real))
        x = x + self.drop(self.inner(self.between(x)))
        # The mean over the real tokens alone: padding changes neither the sum nor the count.
        weight = real.to(x.dtype).unsqueeze(-1)
        return self.head(self.drop((x * weight).sum(1) / weight.sum(1).clamp(min=1.0)))

    def attention(self, x: Tensor, real: Tensor) -> Tensor:
        n, tokens, width = x.shape
        parts = self.queries_keys_values(x).view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        # A number and not -inf: a row that is all padding would become NaN.
        hidden = torch.where(real, 0.0, -1e4)[:, None, None, :]
        y = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=hidden)
        return self.mixed(y.transpose(1, 2).reshape(n, tokens, width))


def build_model() -> nn.Module:
    """What the contract names: the network without its weights."""
    return Topic()


def sentences(text: str) -> Iterator[str]:
    """The sentences of a description in reStructuredText that have at least five words."""
    text = re.sub(r":\w+:`([^`]*)`", r"\1", text)
    for paragraph in re.split(r"\n\s*\n|\n\s*[-*:]\s?", text):
        for sentence in re.split(r"(?<=[.!?;])\s+(?=[A-Z(])", " ".join(paragraph.split())):
            if len(re.findall("[A-Za-z]{2,}", sentence)) >= 5:
                yield sentence


def corpus() -> tuple[list[str], np.ndarray]:
    """Sentences, and int64 [n] the place of the data set that each is about in LABELS."""
    folder = files("sklearn.datasets.descr")
    found = {label: list(sentences((folder / f"{label}.rst").read_text(encoding="utf-8"))) for label in LABELS}
    texts = [text for label in LABELS for text in found[label]]
    return texts, np.repeat(np.arange(len(LABELS)), [len(found[label]) for label in LABELS])


def train_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Byte-level BPE, so that there is no text that it does not take; no text has zero tokens, for [CLS] comes first."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["[PAD]", "[CLS]"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    return tokenizer


def padded(rows: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
    """Token ids and mask, int64 [n, longest], padded with 0."""
    length = max(map(len, rows))
    ids = np.array([[*row, *[0] * (length - len(row))] for row in rows], dtype=np.int64)
    mask = np.array([[1] * len(row) + [0] * (length - len(row)) for row in rows], dtype=np.int64)
    return {"input_ids": ids, "attention_mask": mask}


def pieces(texts: Sequence[str], random: np.random.Generator) -> list[str]:
    """From each text a few runs of its words: few texts have to teach much."""
    cut = []
    for text in texts:
        words = text.split()
        for _ in range(CUTS):
            length = int(random.integers(min(4, len(words)), len(words) + 1))
            start = int(random.integers(0, len(words) - length + 1))
            cut.append(" ".join(words[start : start + length]))
    return cut


def fit(model: Topic, tokenizer: Tokenizer, texts: Sequence[str], labels: np.ndarray) -> None:
    random = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    for _ in range(EPOCHS):
        rows = [encoding.ids for encoding in tokenizer.encode_batch(pieces(texts, random))]
        targets = np.repeat(labels, CUTS)
        for batch in np.array_split(random.permutation(len(rows)), max(1, len(rows) // 64)):
            feeds = padded([rows[row][:LENGTH] for row in batch])
            optimizer.zero_grad()
            scores = model(torch.from_numpy(feeds["input_ids"]), torch.from_numpy(feeds["attention_mask"]))
            nn.functional.cross_entropy(scores, torch.from_numpy(targets[batch])).backward()
            optimizer.step()
if __name__=="__main__":
    import time
    t0=time.time()
    shipworthy.set_seed(0)
    texts, labels = corpus()
    order=np.random.default_rng(0).permutation(len(texts))
    texts=[texts[i] for i in order]; labels=labels[order]
    n=int(len(texts)*.6); print(len(texts),np.bincount(labels))
    tok=train_tokenizer(texts[:n]); print(tok.get_vocab_size())
    m=Topic(); fit(m,tok,texts[:n],labels[:n]); m.eval()
    rows=[e.ids[:LENGTH] for e in tok.encode_batch(texts[n:])]
    f=padded(rows)
    with torch.inference_mode(): p=m(torch.from_numpy(f["input_ids"]),torch.from_numpy(f["attention_mask"])).argmax(1).numpy()
    print((p==labels[n:]).mean(), f["input_ids"].shape, time.time()-t0)
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    v=TfidfVectorizer(sublinear_tf=True); X=v.fit_transform(texts[:n]); print(LogisticRegression(C=30).fit(X,labels[:n]).score(v.transform(texts[n:]),labels[n:]))
