"""Buckets chosen by counted runs."""

from __future__ import annotations

from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry, Counter, generate_latest

from deploy.triton.render import main
from deploy.triton.traffic import (
    LARGEST,
    Size,
    TrafficError,
    choose,
    padded_work,
    read_traffic,
)
from services.ranker.run_sizes import EVENTS, NAME, STEPS, USERS
from services.ranker.settings import RankerSettings
from services.ranker.triton_model.buckets import tokens


def exposed(path: Path, traffic: dict[Size, float]) -> Path:
    registry = CollectorRegistry()
    runs = Counter(NAME, "Runs.", ("users", "events", "steps"), registry=registry)
    Counter("other", "Another.", registry=registry).inc()
    for size, count in traffic.items():
        runs.labels(*size).inc(count)
    path.write_bytes(generate_latest(registry))
    return path


def made_traffic(seed: int, kinds: int) -> dict[Size, float]:
    random = np.random.default_rng(seed)
    sizes = zip(
        random.choice(USERS[:8], kinds), random.choice(EVENTS[:16], kinds),
        random.choice(STEPS, kinds), strict=True,
    )  # fmt: skip
    return {(int(u), int(n), int(t)): float(random.integers(1, 1000)) for u, n, t in sizes}


def test_the_counted_sizes_reach_the_largest_bucket() -> None:
    assert (USERS[-1], EVENTS[-1], STEPS[-1]) == LARGEST
    for sizes in (USERS, EVENTS, STEPS):
        assert list(sizes) == sorted(set(sizes))


def test_runs_of_several_rankers_are_added(tmp_path: Path) -> None:
    first = exposed(tmp_path / "a", {(1, 24, 16): 3, (2, 48, 16): 1})
    second = exposed(tmp_path / "b", {(1, 24, 16): 4})
    assert read_traffic([first, second]) == {(1, 24, 16): 7, (2, 48, 16): 1}


@pytest.mark.parametrize(
    ("text", "why"), [("up 1\n", "no heliograph_ranker_runs_total"), ("{", "not what /metrics")]
)
def test_other_files_are_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "wrong").write_text(text)
    with pytest.raises(TrafficError, match=why):
        read_traffic([tmp_path / "wrong"])


@pytest.mark.parametrize("seed", range(20))
def test_two_buckets_beside_the_largest_are_as_good_as_any_two(seed: int) -> None:
    traffic = made_traffic(seed, 12)
    chosen = choose(traffic, 3)
    assert LARGEST in chosen
    offered = list(product(*(set(axis) for axis in zip(*traffic, strict=True))))
    best = min(padded_work([*pair, LARGEST], traffic) for pair in combinations(offered, 2))
    assert padded_work(chosen, traffic) == pytest.approx(best)


def test_as_many_buckets_as_sizes_pad_nothing() -> None:
    traffic = made_traffic(1, 11)
    chosen = choose(traffic, 12)
    assert set(chosen) == {*traffic, LARGEST}
    assert padded_work(chosen, traffic) == 1
    assert [tokens(*size) for size in chosen] == sorted(tokens(*size) for size in chosen)


def test_rendering_by_traffic_tells_what_it_chose(tmp_path: Path) -> None:
    metrics = exposed(tmp_path / "metrics", {(1, 24, 16): 30, (4, 96, 64): 10})
    arguments = ["--repository", str(tmp_path / "out"), "--traffic", str(metrics)]
    folder = str(RankerSettings().model_dir / "bootstrap-1")
    told = CliRunner().invoke(main, [*arguments, folder])
    assert told.exit_code == 0, told.output
    assert told.output.startswith("1x24x16 4x96x64 128x2048x64: chosen by 40 runs")
    both = CliRunner().invoke(main, [*arguments, "--bucket", "1x32x16", folder])
    assert both.exit_code == 2
    none = exposed(tmp_path / "none", {})
    refused = CliRunner().invoke(main, [*arguments[:2], "--traffic", str(none), folder])
    assert refused.exit_code == 1
    assert "no runs have been counted yet" in refused.output
