"""Neural rivals of bench.ranker_quality, with the ranker's inputs, heads, loss and calibration.

- `DlrmLike`: after Naumov et al., "Deep Learning Recommendation Model for Personalization and
  Recommendation Systems" (arXiv:1906.00091): embeddings and pooled contents, a bottom net over the
  numbers, inner products of all pairs, a top net.
- `SasrecLike`: after Kang & McAuley, "Self-Attentive Sequential Recommendation" (ICDM 2018):
  causal self-attention over the items that the user engaged with; the last state times the event's
  item, beside the same numbers as the other rival has.

Those that are `helped` have the numbers that the ranking model derives itself; see `ranker_flat`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bench.ranker_flat import BAGS, CATEGORIES, categories, contents, number_count, numbers
from services.ranker.features.items import CONTENT_DIMENSIONS
from services.ranker.features.schema import STEPS
from services.ranker.features.vocabulary import HEADS, StepKind
from services.ranker.training.model import HIDDEN, Block, ModelConfig, event_content
from services.ranker.training.multitask import MultiTaskModel

HIDDEN_WIDTH = 128
SHARED_WIDTH = 64
ATTENTION_HEADS = 2


class Towers(nn.Module):
    """One small net per head, as the ranking model has them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, 1)) for _ in HEADS
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, width] to logits [N, H]."""
        return torch.cat([net(x) for net in self.nets], dim=-1)

    def bias(self, column: int) -> Tensor:
        """Of a head's logit."""
        output = self.nets[column].get_submodule("2")
        assert isinstance(output, nn.Linear)
        return output.bias


class Numbers(nn.Module):
    """The plain numbers, each normalised over the batches, through a net."""

    def __init__(self, config: ModelConfig, *, helped: bool) -> None:
        super().__init__()
        self.helped = helped
        count = number_count(helped=helped)
        self.net = nn.Sequential(
            nn.BatchNorm1d(count),
            nn.Linear(count, HIDDEN_WIDTH),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(HIDDEN_WIDTH, config.width),
        )

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """[N, width]."""
        found: Tensor = self.net(numbers(inputs, helped=self.helped))
        return found


class DlrmLike(MultiTaskModel):
    """See the module."""

    def __init__(self, config: ModelConfig, *, helped: bool = False) -> None:
        super().__init__()
        width = config.width
        self.tables = nn.ModuleDict(
            {name: nn.Embedding(rows, width) for name, rows in CATEGORIES.items()}
        )
        self.contents = nn.ModuleList(
            nn.Linear(CONTENT_DIMENSIONS, width) for _ in range(1 + len(BAGS))
        )
        self.bottom = Numbers(config, helped=helped)
        vectors = len(CATEGORIES) + 2 + len(BAGS)
        self.pairs = torch.triu_indices(vectors, vectors, 1)
        self.top = _top(width + self.pairs.shape[1], config.dropout)
        self.towers = Towers(SHARED_WIDTH, config.tower_width)

    def raw_logits(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """See `MultiTaskModel`."""
        bottom = self.bottom(inputs)
        vectors = [bottom]
        vectors += [self.tables[name](rows) for name, rows in categories(inputs).items()]
        vectors += [
            net(content) for net, content in zip(self.contents, contents(inputs), strict=True)
        ]
        table = torch.stack(vectors, dim=1)  # [N, V, W]
        products = table @ table.transpose(1, 2)
        found: Tensor = self.towers(
            self.top(torch.cat([bottom, products[:, self.pairs[0], self.pairs[1]]], dim=1))
        )
        return found

    def tower_bias(self, column: int) -> Tensor:
        """See `MultiTaskModel`."""
        found: Tensor = self.towers.bias(column)
        return found


class SasrecLike(MultiTaskModel):
    """See the module."""

    def __init__(self, config: ModelConfig, *, helped: bool = False) -> None:
        super().__init__()
        width = config.width
        self.content = nn.Linear(CONTENT_DIMENSIONS, width)
        self.kind = nn.Embedding(len(StepKind), width)
        self.place = nn.Embedding(STEPS, width)
        self.blocks = nn.ModuleList(
            Block(width, ATTENTION_HEADS, config.dropout) for _ in range(config.sequence_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.tables = nn.ModuleDict(
            {name: nn.Embedding(rows, width) for name, rows in CATEGORIES.items()}
        )
        self.numbers = Numbers(config, helped=helped)
        self.top = _top(4 * width, config.dropout)
        self.towers = Towers(SHARED_WIDTH, config.tower_width)

    def raw_logits(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """See `MultiTaskModel`."""
        user = self._user(inputs)[inputs["user_row"].long()]
        item = self.content(event_content(inputs))
        context = self.numbers(inputs) + sum(
            self.tables[name](rows) for name, rows in categories(inputs).items()
        )
        shared = self.top(torch.cat([user, item, user * item, context], dim=1))
        found: Tensor = self.towers(shared)
        return found

    def tower_bias(self, column: int) -> Tensor:
        """See `MultiTaskModel`."""
        found: Tensor = self.towers.bias(column)
        return found

    def _user(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """State at the latest step [U, W]. Steps come newest first, so each hears those after it;
        who has none has what the padding at the first place says."""
        kinds = inputs["engagement_kinds"].long()  # [U, L]
        steps = kinds.shape[1]
        content = self.content(inputs["items"])[inputs["engagement_items"].long()]
        tokens = content + self.kind(kinds) + self.place(torch.arange(steps))
        older = torch.ones(steps, steps).tril(-1) * HIDDEN  # what is newer isn't heard
        bias = (kinds == 0).float()[:, None, None] * HIDDEN + older
        for block in self.blocks:
            tokens = block(tokens, bias)
        found: Tensor = self.norm(tokens[:, 0])
        return found


def _top(width: int, dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.Linear(width, HIDDEN_WIDTH),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(HIDDEN_WIDTH, SHARED_WIDTH),
        nn.GELU(),
    )
