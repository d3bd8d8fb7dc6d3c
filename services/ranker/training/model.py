"""The ranking model: U users and N of their events in, one probability per event and head out.

    users ── sequences ─ transformer ─ 3 summaries ┐
          ── profile, counts, delivery time ───────┴─ 6 user tokens [U, 6, W]     once per user
                                                         │ gathered by user_row
    events ─ event, its content, what both share ──── 3 event tokens [N, 3, W]   once per event
                                                         ▼
            9 tokens [N, 9, W] ─┬─ transformer mixer ─┬─ trunk ─ one tower per head
                                └───── wide net ──────┘

Sizes in the comments: U users, N events, I distinct items, L steps, S sequence width, W width,
H heads of the output, C numbers of content, M items of an event. Inputs are those of
`features.model_inputs`, named as there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from services.ranker.features.items import ATTRIBUTE_DIMENSIONS, CONTENT_DIMENSIONS
from services.ranker.features.schema import EVENT_ITEMS, SEQUENCES
from services.ranker.features.vocabulary import (
    HEADS,
    LOCALE_BUCKETS,
    SEGMENT_BUCKETS,
    SOURCE_BUCKETS,
    TYPE_BUCKETS,
    Channel,
    StepKind,
)
from services.ranker.training.multitask import MultiTaskModel
from services.ranker.training.numbers import (
    EVENT_ROW_NUMBERS,
    TIME_NUMBERS,
    TYPE_NUMBERS,
    USER_NUMBERS,
    event_numbers,
    time_numbers,
    type_numbers,
    user_numbers,
)

HIDDEN = -1e4
"""Added to the attention of padding: survives half precision, and no row is all hidden."""
LENGTHS = 8
"""Parts into which training cuts sequences by length."""
CONTENT_PARTS = (slice(ATTRIBUTE_DIMENSIONS), slice(ATTRIBUTE_DIMENSIONS, CONTENT_DIMENSIONS))
"""Attributes and text: each is compared by itself."""
SHARED_NUMBERS = TYPE_NUMBERS + 2 * len(CONTENT_PARTS) + len(SEQUENCES)
FARTHEST = 6.0
"""Standard deviations at which numbers are cut."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes of the model."""

    sequence_width: int = 32
    sequence_layers: int = 1
    width: int = 48
    numbers_width: int = 64
    mixer_layers: int = 1
    attention_heads: int = 4
    wide_width: int = 128
    trunk_widths: tuple[int, int] = (128, 64)
    tower_width: int = 32
    dropout: float = 0.2
    text_dropout: float = 0.3
    """Share of items whose text training leaves out: new ones have no embedding for a while, and
    none has one where there is no text model."""


class Block(nn.Module):
    """Transformer block: attention, then a feed-forward net, each normalised before and added."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.queries = nn.Linear(width, width)
        self.keys_values = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.before_forward = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * width)
        self.contract = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor | None = None, first: int | None = None) -> Tensor:
        """Tokens x [B, T, W] to the first Q of them, all unless `first` says fewer [B, Q, W].

        `bias` [B, 1, 1, T] is added to the attention.
        """
        batch, tokens, width = x.shape
        size = width // self.heads
        normed = self.before_attention(x)
        x = x[:, :first]  # [B, Q, W]
        queries = self.queries(normed[:, :first]).reshape(batch, -1, self.heads, size)
        pairs = self.keys_values(normed).reshape(batch, tokens, 2, self.heads, size)
        keys, values = pairs.permute(2, 0, 3, 1, 4).unbind(0)  # [B, heads, T, W/heads]
        attention = queries.transpose(1, 2) @ keys.transpose(-1, -2) / math.sqrt(size)
        if bias is not None:
            attention = attention + bias  # [B, heads, Q, T]
        mixed = torch.softmax(attention, dim=-1) @ values  # [B, heads, Q, W/heads]
        mixed = mixed.transpose(1, 2).reshape(batch, -1, width)
        x = x + self.dropout(self.output(mixed))
        forward = self.contract(nn.functional.gelu(self.expand(self.before_forward(x))))
        result: Tensor = x + self.dropout(forward)
        return result


class Numbers(nn.Module):
    """A token of plain numbers [..., F] → [..., W]: standardised by the means and deviations that
    training saw, then what is linear in them plus a small net."""

    def __init__(self, count: int, config: ModelConfig) -> None:
        super().__init__()
        self.standardise = nn.BatchNorm1d(count, momentum=None, affine=False)
        self.linear = nn.Linear(count, config.width)
        self.net = nn.Sequential(
            nn.Linear(count, config.numbers_width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.numbers_width, config.width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The token."""
        x = torch.clamp(self.standardise(x), -FARTHEST, FARTHEST)
        token: Tensor = self.linear(x) + self.net(x)
        return token


class SequenceEncoder(nn.Module):
    """One vector for each of a user's three sequences."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.sequence_width
        self.kind = nn.Embedding(len(StepKind), size)
        self.channel = nn.Embedding(len(Channel), size)
        self.event_type = nn.Embedding(TYPE_BUCKETS, size)
        self.content = nn.Linear(CONTENT_DIMENSIONS, size)
        self.times = nn.Linear(3, size)
        self.summary = nn.Parameter(torch.randn(len(SEQUENCES), size) * 0.02)
        self.blocks = nn.ModuleList(
            Block(size, config.attention_heads, config.dropout)
            for _ in range(config.sequence_layers)
        )
        self.norm = nn.LayerNorm(size)
        self.widen = nn.Linear(size, config.width)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Summaries [U, 3, W]."""
        content = self.content(inputs["items"])  # [I, S], once per distinct item
        stacked = {
            name: torch.cat([inputs[f"{sequence}_{name}"] for sequence in SEQUENCES])
            for name in ("kinds", "channels", "types", "ages", "delays", "items")
        }  # each [3U, L]
        users = inputs["segment"].shape[0]
        summary = self.summary.repeat_interleave(users, dim=0)[:, None]  # [3U, 1, S]
        if torch.onnx.is_in_onnx_export():  # a graph's shapes don't depend on values
            heard = self._heard(stacked, summary, content)
        else:
            heard = self._by_length(stacked, summary, content)
        summaries: Tensor = self.widen(self.norm(heard))  # [3U, W]
        return summaries.reshape(len(SEQUENCES), users, -1).transpose(0, 1)

    def _by_length(self, steps: Mapping[str, Tensor], summary: Tensor, content: Tensor) -> Tensor:
        """The same as `_heard`, some sequences of like length at a time: most are short, and the
        padding would take most of the time."""
        lengths = (steps["kinds"] > 0).sum(1)  # [3U]
        order = torch.argsort(lengths, stable=True)
        heard = []
        for rows in order.chunk(LENGTHS):
            longest = max(int(lengths[rows[-1]]), 1)
            trimmed = {name: array[rows, :longest] for name, array in steps.items()}
            heard.append(self._heard(trimmed, summary[rows], content))
        return torch.cat(heard)[torch.argsort(order)]

    def _heard(self, arrays: Mapping[str, Tensor], summary: Tensor, content: Tensor) -> Tensor:
        """What the summary's token has heard of the steps [3U, S]; arrays [3U, L], summary
        [3U, 1, S], content [I, S]."""
        steps = (
            self.kind(arrays["kinds"].long())
            + self.channel(arrays["channels"].long())
            + self.event_type(arrays["types"].long())
            + content[arrays["items"].long()]
            + self.times(self._times(arrays["ages"], arrays["delays"]))
        )  # [3U, L, S]
        tokens = torch.cat([summary, steps], dim=1)  # [3U, 1 + L, S]; the first is always valid
        padding = (arrays["kinds"] == 0).to(tokens.dtype) * HIDDEN  # [3U, L]
        bias = torch.cat([torch.zeros_like(padding[:, :1]), padding], dim=1)[:, None, None]
        for block in self.blocks[:-1]:
            tokens = block(tokens, bias)
        heard: Tensor = self.blocks[-1](tokens, bias, first=1)[:, 0]  # only it is read
        return heard

    @staticmethod
    def _times(ages: Tensor, delays: Tensor) -> Tensor:
        """log(1 + hours) of age, gap to the next newer step, and delay of a response [3U, L, 3]."""
        hours = ages.float() / 3600
        newer = torch.cat([hours[:, :1], hours[:, :-1]], dim=1)
        gaps = torch.clamp(hours - newer, min=0)  # padding after the last step gives no gap < 0
        return torch.log1p(torch.stack([hours, gaps, delays.float() / 3600], dim=-1))


class RankingModel(MultiTaskModel):
    """The whole model."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.text_dropout = config.text_dropout
        self.sequences = SequenceEncoder(config)
        self.segment = nn.Embedding(SEGMENT_BUCKETS, width)
        self.locale = nn.Embedding(LOCALE_BUCKETS, width)
        self.counts = Numbers(USER_NUMBERS, config)
        self.hour = nn.Embedding(24, width)
        self.day = nn.Embedding(7, width)
        self.profile = Numbers(TIME_NUMBERS, config)
        self.content = nn.Linear(CONTENT_DIMENSIONS, width)
        self.event_type = nn.Embedding(TYPE_BUCKETS, width)
        self.source = nn.Embedding(SOURCE_BUCKETS, width)
        self.numbers = Numbers(EVENT_ROW_NUMBERS, config)
        self.shared = Numbers(SHARED_NUMBERS, config)
        self.place = nn.Parameter(torch.randn(6 + len(SEQUENCES), width) * 0.02)
        self.mixer = nn.ModuleList(
            Block(width, config.attention_heads, config.dropout) for _ in range(config.mixer_layers)
        )
        self.norm = nn.LayerNorm(width)
        first, last = config.trunk_widths
        self.wide = nn.Sequential(
            nn.Linear(len(self.place) * width, config.wide_width),
            nn.GELU(),
            nn.Dropout(config.dropout),
        )
        self.trunk = nn.Sequential(
            nn.Linear(2 * width + config.wide_width, first),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(first, last),
            nn.GELU(),
        )
        self.towers = nn.Linear(last, len(HEADS) * config.tower_width)  # side by side
        self.tower_outputs = nn.Linear(config.tower_width, len(HEADS))  # a row for each tower

    def raw_logits(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Logits [N, H] before calibration."""
        if self.training:
            inputs = {**inputs, "items": self._some_without_text(inputs["items"])}
        user_row = inputs["user_row"].long()  # [N]
        user_tokens = self._user_tokens(inputs)[user_row]  # [N, 6, W]
        event_tokens = self._event_tokens(inputs, user_row)  # [N, 3, W]
        tokens = torch.cat([event_tokens, user_tokens], dim=1) + self.place  # [N, 9, W]
        wide = self.wide(tokens.flatten(1))
        for block in self.mixer:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        pooled = torch.cat([tokens.mean(dim=1), tokens[:, 0], wide], dim=-1)
        weight, bias = self.tower_outputs.weight, self.tower_outputs.bias
        inner = nn.functional.gelu(self.towers(self.trunk(pooled))).reshape(-1, *weight.shape)
        logits: Tensor = (inner * weight).sum(-1) + bias  # [N, H]
        return logits

    def _some_without_text(self, items: Tensor) -> Tensor:
        """Content [I, C] as it is before an embedding was made, for items drawn anew each time."""
        kept = torch.rand(len(items), 1) >= self.text_dropout
        return torch.cat(
            [items[:, :ATTRIBUTE_DIMENSIONS], items[:, ATTRIBUTE_DIMENSIONS:] * kept], dim=1
        )

    def tower_bias(self, column: int) -> Tensor:
        """The bias of a head's logit [1], by the head's column."""
        return self.tower_outputs.bias[column : column + 1]

    def _user_tokens(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Profile, counts, delivery time and the three summaries [U, 6, W]."""
        hour_of_week = inputs["hour_of_week"].long()
        day = torch.div(hour_of_week, 24, rounding_mode="floor")
        profile = self.segment(inputs["segment"].long()) + self.locale(inputs["locale"].long())
        counts = self.counts(user_numbers(inputs))
        time = (
            self.hour(hour_of_week - 24 * day) + self.day(day) + self.profile(time_numbers(inputs))
        )
        return torch.cat([torch.stack([profile, counts, time], 1), self.sequences(inputs)], dim=1)

    def _event_tokens(self, inputs: Mapping[str, Tensor], user_row: Tensor) -> Tensor:
        """The event, its content, and what user and event share [N, 3, W]."""
        best = inputs["event_items"][:, 0].long()  # [N]
        event = (
            self.event_type(inputs["event_type"].long())
            + self.source(inputs["event_source"].long())
            + self.numbers(event_numbers(inputs))
        )
        content = event_content(inputs)  # [N, C]
        tastes = [
            (content[:, part] * taste[user_row, part]).sum(-1, keepdim=True)
            for taste in self._tastes(inputs)
            for part in CONTENT_PARTS
        ]  # four of [N, 1]: nearness to what was opened and to what was dismissed
        repeats = [
            ((inputs[f"{name}_items"][user_row] == best[:, None]) & (best[:, None] > 0))
            .float()
            .sum(-1, keepdim=True)
            for name in SEQUENCES
        ]  # three of [N, 1]: how often the best item stands in the user's sequences
        shared = self.shared(torch.cat([type_numbers(inputs), *tastes, *repeats], dim=-1))
        return torch.stack([event, self.content(content), shared], dim=1)

    @staticmethod
    def _tastes(inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Mean content of the items opened or clicked, and of those dismissed, each [U, C]."""
        kinds = inputs["response_kinds"]  # [U, L]
        content = inputs["items"][inputs["response_items"].long()]  # [U, L, C]
        liked = (kinds == int(StepKind.OPEN)) | (kinds == int(StepKind.CLICK))
        return _mean(content, liked), _mean(content, kinds == int(StepKind.DISMISS))


def event_content(inputs: Mapping[str, Tensor]) -> Tensor:
    """The embedding of each event [N, C]: the mean content of its best items, those further down
    weighing less (1, ½, ⅓, ¼); zeros for an event without items."""
    items = inputs["event_items"].long()  # [N, M]
    places = torch.arange(1, items.shape[1] + 1, dtype=torch.float32)
    weights = (items > 0).float() / places  # [N, M]
    total = (weights[:, None] @ inputs["items"][items])[:, 0]
    return total / torch.clamp(weights.sum(1, keepdim=True), min=1 / EVENT_ITEMS)


def _mean(content: Tensor, chosen: Tensor) -> Tensor:
    """Mean over chosen steps; zeros when none is: content [U, L, C], chosen [U, L] → [U, C]."""
    weights = chosen.float()
    total = (weights[:, None] @ content)[:, 0]
    return total / torch.clamp(weights.sum(1, keepdim=True), min=1)
