"""Text to vectors: all-MiniLM-L6-v2 (Reimers and Gurevych, 2019) on ONNX Runtime's CPU provider."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from services.candidate.text import weights
from services.candidate.text.weights import VOCABULARY_FILE, TextModelError
from services.candidate.text.wordpiece import WordPiece

GRAPH_FILE = Path(__file__).with_name("minilm.onnx")
"""The model without its weights, which it finds in the weights file; made by graph.py."""
DIMENSIONS = 384
MOST_PIECES = 256
"""Word pieces of a text that count, as the model was trained; the rest is cut off."""
BATCH_PIECES = 512
"""Word pieces of one run, padding included: beyond it the activations leave the processor's cache
and each text takes longer."""
PROVIDER = "CPUExecutionProvider"

Floats = npt.NDArray[np.float32]


class TextEncoder:
    """Sentence vectors. Safe to share between threads; a call blocks until it is done."""

    def __init__(self, folder: Path, *, threads: int) -> None:
        """Check and open the model in a folder. `threads`: cores that one run may use. Raises
        TextModelError."""
        weights.check(folder)
        self._tokenizer = WordPiece.read(folder / VOCABULARY_FILE, MOST_PIECES)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Idle threads that spin take the cores from whatever else runs on the machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(folder)
        )
        try:
            graph = GRAPH_FILE.read_bytes()
            self._session = ort.InferenceSession(graph, options, providers=[PROVIDER])
        except Exception as error:  # ONNX Runtime has an exception class for each cause
            raise TextModelError(f"{weights.MODEL} can't be opened: {error}") from error

    def embed(self, texts: Sequence[str]) -> Floats:
        """Vectors [n, 384] of length 1, so that an inner product is a cosine; a text without
        anything to read has the zero vector. A text's vector does not depend on the others."""
        pieces = [self._tokenizer.encode(text) for text in texts]
        vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
        for rows in _batches([len(numbers) for numbers in pieces]):
            batch = _padded([pieces[row] for row in rows])
            (vectors[rows],) = self._session.run(None, {"pieces": batch})
        return vectors


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Positions of texts that have any pieces, those of like length together, each batch within
    the budget."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not lengths[row]:
            continue
        if batch and (len(batch) + 1) * lengths[row] > BATCH_PIECES:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _padded(pieces: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    """Numbers of pieces [texts, longest], 0 ([PAD]) after a text's end."""
    batch = np.zeros((len(pieces), max(map(len, pieces))), np.int64)
    for row, numbers in enumerate(pieces):
        batch[row, : len(numbers)] = numbers
    return batch
