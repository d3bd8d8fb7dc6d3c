"""`python -m bench.text_vectors --json OUT`: how fast and how true are the vectors of texts?

Speed is in texts per second of processor time on one core, which other work on the machine hardly
changes. Truth is the cosine with an independent forward pass in torch, in double precision, over
the same weights and word pieces.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from bench.report import BenchReport, Metric
from services.candidate.text import TextEncoder, TextModelError, weights
from services.candidate.text.encoder import MOST_PIECES
from services.candidate.text.graph import EPSILON, HEADS, LAYERS, read_header
from services.candidate.text.weights import VOCABULARY_FILE, WEIGHTS_FILE
from services.candidate.text.wordpiece import WordPiece
from services.runtime.settings import RuntimeSettings
from simulation.download import load
from simulation.movielens import DatasetError

PACKAGES = ("onnxruntime", "torch", "numpy")
ROUNDS = 5
LONG_TEXTS = 64
LONG_WORDS = 64
COMPARED = 64
TRUE = 0.99999
"""Least cosine; a nearest-neighbour order is disturbed by far less than that."""


class Reference:
    """The model in torch."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = WordPiece.read(folder / VOCABULARY_FILE, MOST_PIECES)
        path = folder / WEIGHTS_FILE
        data = np.memmap(path, np.uint8, "r")
        self._weights = {
            name: torch.tensor(
                data[at.offset : at.offset + at.length].view("<f4").reshape(at.shape)
            ).double()
            for name, at in read_header(path).items()
        }

    def embed(self, text: str) -> npt.NDArray[np.float64]:
        """Vector [384] of length 1."""
        pieces = torch.tensor(self._tokenizer.encode(text))
        x = self._table("word")[pieces] + self._table("position")[: len(pieces)]
        x = self._normalised(x + self._table("token_type")[0], "embeddings.LayerNorm")
        for layer in range(LAYERS):
            x = self._layer(x, f"encoder.layer.{layer}")
        vector: npt.NDArray[np.float64] = functional.normalize(x.mean(0), dim=-1).numpy()
        return vector

    def _layer(self, x: Tensor, name: str) -> Tensor:
        query, key, value = (
            self._linear(x, f"{name}.attention.self.{part}").view(len(x), HEADS, -1).mT
            for part in ("query", "key", "value")
        )  # each [s, 32, heads]
        scores = torch.einsum("qdh,kdh->hqk", query, key) / query.shape[1] ** 0.5
        seen = torch.einsum("hqk,kdh->qhd", scores.softmax(-1), value).flatten(1)
        seen = self._linear(seen, f"{name}.attention.output.dense")
        x = self._normalised(x + seen, f"{name}.attention.output.LayerNorm")
        wide = functional.gelu(self._linear(x, f"{name}.intermediate.dense"))
        return self._normalised(
            x + self._linear(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm"
        )

    def _table(self, name: str) -> Tensor:
        return self._weights[f"embeddings.{name}_embeddings.weight"]

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _normalised(self, x: Tensor, name: str) -> Tensor:
        scale, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(x, (x.shape[-1],), scale, bias, EPSILON)


def measure(folder: Path) -> BenchReport:
    """Embed MovieLens' movies and texts of 64 words made of their titles' words."""
    started = time.process_time()
    encoder = TextEncoder(folder, threads=1)
    loading = time.process_time() - started
    movies = [f"{movie.title}: {', '.join(movie.genres)}, {movie.year}." for movie in load().items]
    words = " ".join(movies).split()
    drawn = np.random.default_rng(0).integers(0, len(words), (LONG_TEXTS, LONG_WORDS))
    long = [" ".join(words[place] for place in row) for row in drawn]
    short_rate, long_rate = _rates(encoder, movies), _rates(encoder, long)
    metrics = {
        "movies_per_core_second": Metric(float(np.median(short_rate)), "texts", 100, "higher"),
        "long_texts_per_core_second": Metric(float(np.median(long_rate)), "texts", 15, "higher"),
        "load_core_seconds": Metric(loading, "s", 3, "lower"),
        "least_cosine_with_torch": Metric(
            _least_cosine(encoder, folder, [*movies[:COMPARED], *long[:COMPARED]]),
            "cosine",
            TRUE,
            "higher",
        ),
    }
    series = {"movies_per_core_second": short_rate, "long_texts_per_core_second": long_rate}
    return BenchReport("text_vectors", metrics, series, PACKAGES)


def _rates(encoder: TextEncoder, texts: Sequence[str]) -> list[float]:
    rates = []
    for _ in range(ROUNDS):
        started = time.process_time()
        encoder.embed(texts)
        rates.append(len(texts) / (time.process_time() - started))
    return rates


def _least_cosine(encoder: TextEncoder, folder: Path, texts: Sequence[str]) -> float:
    reference = Reference(folder)
    expected = np.array([reference.embed(text) for text in texts])
    return float((encoder.embed(texts) * expected).sum(axis=1).min())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit status 1 when the model or the data can't be had."""
    parser = argparse.ArgumentParser(prog="python -m bench.text_vectors", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="write the figures there")
    given = parser.parse_args(arguments)
    folder = weights.model_folder(RuntimeSettings().model_dir)
    try:
        weights.fetch(folder)
        made = measure(folder)
    except (TextModelError, DatasetError) as error:
        print(error, file=sys.stderr)
        return 1
    made.print()
    made.write(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
