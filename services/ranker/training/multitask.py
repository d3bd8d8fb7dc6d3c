"""What a model must be to be trained, calibrated and exported: one logit per head."""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from services.ranker.features.vocabulary import HEADS
from services.ranker.inputs import INPUTS

INPUT_NAMES = tuple(each.name for each in INPUTS)
"""Names of the inputs, in the order in which `forward` takes them."""


class MultiTaskModel(nn.Module):
    """Logits of N events, H heads. Untrained heads answer their constant."""

    trained: Tensor
    constants: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        count = len(HEADS)
        self.register_buffer("scale", torch.ones(count))  # calibration of the logits
        self.register_buffer("shift", torch.zeros(count))
        self.register_buffer("trained", torch.ones(count, dtype=torch.bool))
        self.register_buffer("constants", torch.zeros(count))

    def forward(self, *arrays: Tensor) -> tuple[Tensor, Tensor]:
        """Scores in [0, 1] and calibrated logits, each [N, H]."""
        inputs = dict(zip(INPUT_NAMES, arrays, strict=True))
        logits = self.raw_logits(inputs) * self.scale + self.shift
        scores = torch.where(self.trained, torch.sigmoid(logits), self.constants)
        return scores, logits

    @abstractmethod
    def raw_logits(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Logits [N, H] before calibration."""

    @abstractmethod
    def tower_bias(self, column: int) -> Tensor:
        """The bias of a head's logit [1], by the head's column."""
