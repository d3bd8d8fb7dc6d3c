"""`heliograph candidate generate` against a running service, and against one that breaks off."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result
from google.protobuf.duration_pb2 import Duration
from heliograph.candidate.v1alpha1 import generating_pb2
from heliograph.type.v1alpha1 import event_pb2

from services.candidate.orders import shard_of
from services.cli import generating
from services.cli.main import main
from tests.conftest import RunningSystem, StartSystem
from tests.service.candidate.calls import Candidate, event_type, interaction

USERS = [f"u{number:02}" for number in range(20)]
DAY = str(datetime.now(UTC).date())
Answer = generating_pb2.GenerateDailyResponse


async def filled(system: RunningSystem) -> Candidate:
    candidate = Candidate(system.channel("candidate"))
    await candidate.prepare(USERS, kinds=[event_type("item.suggestion")])
    await candidate.items([event_pb2.Item(item_id=f"i{number}") for number in range(4)])
    lately = datetime.now(UTC) - timedelta(days=1)
    await candidate.interactions([interaction(user, "i0", moment=lately) for user in USERS[:10]])
    return candidate


def invoked(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, ["candidate", "generate", *arguments], env=environment)


async def test_two_shards_run_apart_cover_every_user_once(
    start_system: StartSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shard's number comes from the job's index; running one again adds nothing."""
    async with start_system("candidate") as system:
        candidate = await filled(system)
        monkeypatch.setenv("HELIOGRAPH_CANDIDATE_ADDRESS", system.address("candidate"))
        # Only the main thread may handle signals, and it serves here.
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        made = 0
        for shard in range(2):
            index = {"JOB_COMPLETION_INDEX": str(shard)}
            order = ("--of", "2", "--day", DAY, "--json")
            done = await asyncio.to_thread(invoked, *order, **index)
            assert done.exit_code == 0, done.output
            answer = json.loads(done.stdout)
            assert int(answer["user_count"]) == sum(shard_of(user, 2) == shard for user in USERS)
            made += sum(int(source["accepted_count"]) for source in answer["sources"])
            assert answer["seconds"] > 0
        pool = await candidate.pool(*USERS)
        assert set(pool) == set(USERS)
        assert sum(map(len, pool.values())) == made
        order = ("--shard", "1", "--of", "2", "--day", DAY)
        told = await asyncio.to_thread(invoked, *order)
        assert told.exit_code == 0, told.output
        assert "popular" in told.stdout
        assert "users in" in told.stdout
        count = int(answer["user_count"])
        assert told.stderr.splitlines()[-1] == f"shard 1 of 2: {count} of {count} users"
        assert await candidate.pool(*USERS) == pool
        wrong = await asyncio.to_thread(invoked, "--source", "astrology")
        assert (wrong.exit_code, "astrology" in wrong.output) == (1, True)


def test_a_shard_that_does_not_exist_is_wrong_usage() -> None:
    wrong = invoked("--of", "2", JOB_COMPLETION_INDEX="2")
    assert (wrong.exit_code, "0 to 1" in wrong.output) == (2, True)


def test_a_service_that_is_not_there_is_worth_another_try() -> None:
    gone = invoked("--patience", "0", HELIOGRAPH_CANDIDATE_ADDRESS="127.0.0.1:1")
    assert gone.exit_code == 75
    assert "UNAVAILABLE" in gone.output


class Broken(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "broken off"


def answer(users: int, made: int, *, done: bool = False, failed: int = 0) -> Answer:
    source = generating_pb2.SourceProgress(
        source="popular",
        accepted_count=made,
        failed_user_count=failed,
        lost_count_error=3.0 if made == 7 else 4.0,
        ask_time=Duration(seconds=made),
    )
    return Answer(user_count=users, total_user_count=9, sources=[source], done=done)


class Call:
    """Answers, then an error's code where it breaks; after None nothing comes until it is ended."""

    def __init__(self, script: tuple[Any, ...]) -> None:
        self.steps = iter(script)
        self.ended = threading.Event()

    def __next__(self) -> Answer:
        step = next(self.steps)
        if step is None:
            assert self.ended.wait(10.0)
            step = grpc.StatusCode.CANCELLED
        if isinstance(step, grpc.StatusCode):
            raise Broken(step)
        assert isinstance(step, Answer)
        return step

    def cancel(self) -> None:
        self.ended.set()


class Calls:
    """Answers a call with each script in turn."""

    def __init__(self, *scripts: tuple[Any, ...]) -> None:
        self.scripts = list(scripts)

    def __call__(self, request: Any) -> Call:
        return Call(self.scripts.pop(0))


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generating, "pause_s", lambda attempt: 0.0)


def test_a_run_that_breaks_off_goes_on_and_its_counts_are_added() -> None:
    lost, conflict = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED
    shown: list[int] = []
    calls = Calls((answer(4, 7), lost), (conflict,), (answer(4, 0), answer(9, 2, done=True)))
    request = generating_pb2.GenerateDailyRequest()
    total = generating.run(calls, request, 60.0, lambda part: shown.append(part.user_count))
    assert shown == [4, 4, 9]
    (source,) = total.sources
    assert total.done
    assert (source.accepted_count, source.lost_count_error) == (9, 5.0)
    assert source.ask_time.ToTimedelta() == timedelta(seconds=9)


def test_what_is_refused_is_not_tried_again() -> None:
    calls = Calls((grpc.StatusCode.FAILED_PRECONDITION,))
    with pytest.raises(Broken):
        generating.run(calls, generating_pb2.GenerateDailyRequest(), 60.0, lambda _: None)


def test_patience_ends() -> None:
    calls = Calls((grpc.StatusCode.UNAVAILABLE,), (grpc.StatusCode.UNAVAILABLE,))
    with pytest.raises(Broken):
        generating.run(calls, generating_pb2.GenerateDailyRequest(), 0.0, lambda _: None)
    assert len(calls.scripts) == 1


def test_patience_ends_with_a_service_that_is_stuck() -> None:
    calls = Calls((answer(4, 7), None), (answer(9, 2, done=True),))
    with pytest.raises(generating.NotDone):
        generating.run(calls, generating_pb2.GenerateDailyRequest(), 0.1, lambda _: None)
    assert len(calls.scripts) == 1


def test_why_it_broke_off_is_told_after_a_vain_new_try() -> None:
    calls = Calls((answer(4, 7), grpc.StatusCode.UNAVAILABLE), (None,))
    with pytest.raises(Broken) as failure:
        generating.run(calls, generating_pb2.GenerateDailyRequest(), 0.2, lambda _: None)
    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE


def test_that_it_is_tried_again_is_told_once_a_break(capsys: pytest.CaptureFixture[str]) -> None:
    lost = grpc.StatusCode.UNAVAILABLE
    calls = Calls((lost,), (lost,), (answer(4, 7), lost), (answer(9, 2, done=True),))
    generating.run(calls, generating_pb2.GenerateDailyRequest(), 60.0, lambda _: None)
    assert capsys.readouterr().err == "UNAVAILABLE: broken off; trying again\n" * 2


def test_a_source_that_failed_has_its_own_exit_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(generating, "run", lambda *_: answer(9, 2, done=True, failed=1))
    assert invoked().exit_code == 3


def test_a_run_that_is_stopped_is_worth_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM unwinds as Ctrl-C does."""

    def stopped(*_: object) -> Answer:
        raise KeyboardInterrupt

    monkeypatch.setattr(generating, "run", stopped)
    assert invoked().exit_code == 75


def test_a_log_gets_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter([0.0, 1.0, 11.0, 12.0])
    monkeypatch.setattr(generating.time, "monotonic", lambda: next(seconds))
    with generating._shown("shard 0 of 4") as show:
        for users in (1, 2, 3):
            show(answer(users, 0))
        show(answer(9, 0, done=True))
    assert capsys.readouterr().err.splitlines() == [
        f"shard 0 of 4: {users} of 9 users" for users in (1, 3, 9)
    ]
