"""The model: padding and neighbours change nothing, and bad numbers stay in their place."""

import numpy as np
import pytest
import torch

from services.ranker.features import (
    HEADS,
    Entry,
    EventFacts,
    Features,
    FeatureState,
    Send,
    UserSignals,
    apply,
    event_features,
    model_inputs,
    rows,
    user_features,
)
from services.ranker.features.schema import SEQUENCES
from services.ranker.features.vocabulary import Channel
from services.ranker.training.model import ModelConfig, RankingModel, event_content
from services.ranker.training.multitask import INPUT_NAMES
from tests.unit.ranker.made_log import START, made_items

NOW = START + 30 * 86400
ITEMS = made_items(20)
USERS, EVENTS = 5, 17


@pytest.fixture(scope="module")
def model() -> RankingModel:
    torch.manual_seed(3)
    return RankingModel(ModelConfig()).eval()


def batch() -> tuple[Features, Features, np.ndarray]:
    states = [apply(FeatureState(), history(user)) for user in range(USERS)]
    users = user_features(states, [UserSignals("core")] * USERS, NOW, ITEMS)
    facts = [EventFacts("movie.suggestion", (f"i{n}",), "als", n / EVENTS) for n in range(EVENTS)]
    row = np.random.default_rng(1).integers(USERS, size=EVENTS)
    return users, event_features(facts, NOW, ITEMS), row


def history(user: int) -> list[Entry]:
    """User 0 has none, the others more and more."""
    return [
        Send(NOW - 3600 * n, f"{user}-{n}", Channel.PUSH, "movie.suggestion", (f"i{n % 20}",))
        for n in range(user * 16)
    ]


def logits(model: RankingModel, inputs: Features) -> np.ndarray:
    arrays = [torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in INPUT_NAMES]
    with torch.no_grad():
        return model(*arrays)[1].numpy()


def test_user_once_equals_row_by_row(model: RankingModel) -> None:
    users, events, row = batch()
    together = logits(model, model_inputs(users, events, row, ITEMS))
    for n in range(EVENTS):
        one = slice(n, n + 1)
        alone = model_inputs(rows(users, row[one]), rows(events, one), np.zeros(1), ITEMS)
        np.testing.assert_allclose(logits(model, alone)[0], together[n], atol=1e-4)


def test_padding_does_not_leak(model: RankingModel) -> None:
    users, events, row = batch()
    inputs = model_inputs(users, events, row, ITEMS)
    expected = logits(model, inputs)
    noise = dict(inputs)
    for sequence in SEQUENCES:
        padding = inputs[f"{sequence}_kinds"] == 0
        assert padding.any()
        for name in ("channels", "types", "ages", "delays", "items"):
            array = inputs[f"{sequence}_{name}"].copy()
            array[padding] = 1
            noise[f"{sequence}_{name}"] = array
    noise["response_items"] = inputs["response_items"]  # equality with the event's item counts it
    noise["send_items"], noise["engagement_items"] = (
        inputs["send_items"],
        inputs["engagement_items"],
    )
    np.testing.assert_allclose(logits(model, noise), expected, atol=1e-5)


def test_a_non_finite_number_stays_in_its_row(model: RankingModel) -> None:
    users, events, row = batch()
    inputs = model_inputs(users, events, row, ITEMS)
    expected = logits(model, inputs)
    numbers = inputs["event_numbers"].copy()
    numbers[3] = np.resize([np.nan, np.inf, -np.inf], numbers.shape[1])
    found = logits(model, {**inputs, "event_numbers": numbers})
    assert np.isfinite(found).all()
    others = np.arange(EVENTS) != 3
    np.testing.assert_array_equal(found[others], expected[others])


def test_untrained_heads_answer_their_constant(model: RankingModel) -> None:
    users, events, row = batch()
    inputs = model_inputs(users, events, row, ITEMS)
    other = RankingModel(ModelConfig()).eval()
    other.load_state_dict(model.state_dict())
    other.trained[1] = False
    other.constants[1] = 0.125
    arrays = [torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in INPUT_NAMES]
    scores = other(*arrays)[0].detach().numpy()
    assert scores.shape == (EVENTS, len(HEADS))
    assert (scores[:, 1] == 0.125).all()
    assert not (scores[:, 0] == scores[0, 0]).all()


def test_a_tower_bias_moves_its_own_head_only(model: RankingModel) -> None:
    users, events, row = batch()
    inputs = model_inputs(users, events, row, ITEMS)
    other = RankingModel(ModelConfig()).eval()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.tower_bias(2).add_(1.5)
    moved = logits(other, inputs) - logits(model, inputs)
    np.testing.assert_allclose(moved[:, 2], 1.5, atol=1e-5)
    assert (np.delete(moved, 2, axis=1) == 0).all()


def test_cutting_by_length_changes_nothing(
    model: RankingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    users, events, row = batch()
    inputs = model_inputs(users, events, row, ITEMS)
    cut = logits(model, inputs)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    np.testing.assert_allclose(logits(model, inputs), cut, atol=1e-5)


def test_content_of_an_event_is_that_of_its_known_items_the_first_weighing_most() -> None:
    items = torch.zeros(4, 128)
    items[1:, 0] = torch.tensor([11.0, 22.0, 33.0])
    events = torch.tensor([[1, 2, 3, 0], [0, 2, 0, 0], [0, 0, 0, 0]])
    found = event_content({"items": items, "event_items": events})
    expected = [(11 + 22 / 2 + 33 / 3) / (1 + 1 / 2 + 1 / 3), 22.0, 0.0]
    assert found[:, 0].tolist() == pytest.approx(expected)


def test_training_leaves_out_texts_and_nothing_else() -> None:
    inputs = model_inputs(*batch(), ITEMS)
    seen = []
    for share in (0.0, 1.0):
        model = RankingModel(ModelConfig(dropout=0.0, text_dropout=share)).train()
        model.content.register_forward_hook(lambda _, given, __: seen.append(given[0]))
        items = np.ones_like(inputs["items"])
        model.raw_logits({n: torch.from_numpy(a) for n, a in {**inputs, "items": items}.items()})
    whole, without = seen
    assert whole[:, 64:].any()
    assert not without[:, 64:].any()
    assert (whole[:, :64] == without[:, :64]).all()
