"""`heliograph candidate generate`: one shard of a day's candidates, as a job runs it."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol

import click
import grpc
from google.protobuf.json_format import MessageToDict
from heliograph.candidate.v1alpha1 import candidate_pb2_grpc, generating_pb2
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from services.cli.launch import open_channel
from services.cli.serving import told_plainly
from services.cli.terminal import console
from services.runtime.channels import RETRIED
from services.runtime.retries import pause_s
from services.runtime.settings import RuntimeSettings

SOURCE_FAILED, NOT_DONE = 3, 75
"""Exit statuses: all done, but a source failed for some users; not done, and worth running again
(EX_TEMPFAIL of sysexits.h)."""
LINE_SECONDS = 10.0
"""Between two lines of progress where there is no terminal."""
SUMMED = (
    "proposed_count", "accepted_count", "dropped_count", "failed_user_count", "asked_user_count",
    "skipped_user_count", "lost_count", "ask_time", "saved_time",
)  # fmt: skip

Answer = generating_pb2.GenerateDailyResponse
Show = Callable[[Answer], object]


class Call(Protocol):
    """A call under way."""

    def __next__(self) -> Answer: ...

    def cancel(self) -> object:
        """End it: `__next__` raises grpc.RpcError."""


Generate = Callable[[generating_pb2.GenerateDailyRequest], Call]


@click.command()
@click.option(
    "--shard",
    type=click.IntRange(min=0),
    default=0,
    envvar="JOB_COMPLETION_INDEX",
    show_default=True,
    show_envvar=True,
    help="Which part of the users, from 0.",
)
@click.option(
    "--of", "count", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Parts."
)
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="Default: today in UTC.")
@click.option("--source", "sources", multiple=True, help="Only these sources; may be repeated.")
@click.option("--ask-all", is_flag=True, help="Skip no source, whatever is expected of it.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=300.0,
    show_default=True,
    help="Give up when nothing has moved for so many seconds; 0: at the first failure.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@told_plainly
def generate(
    shard: int,
    count: int,
    day: datetime | None,
    sources: tuple[str, ...],
    ask_all: bool,
    patience: float,
    as_json: bool,
) -> None:
    """Make a day's candidates for one shard of the users, through the candidate service.

    A broken connection is tried again; the run goes on where it was and adds nothing twice, as
    does running the command again. Exit status: 0 done; 1 refused; 2 wrong usage; 3 done, but a
    source failed for some users; 75 not done or stopped, run it again."""
    if shard >= count:
        raise click.UsageError(f"--shard {shard} is not one of --of {count}: 0 to {count - 1}")
    settings = RuntimeSettings()
    request = generating_pb2.GenerateDailyRequest(
        day=f"{day:%Y-%m-%d}" if day else "",
        sources=sources,
        shard=shard,
        shard_count=count,
        ask_all=ask_all,
    )
    began = time.monotonic()
    with (
        open_channel(settings.candidate.target, settings) as channel,
        _shown(f"shard {shard} of {count}") as show,
    ):
        stub = candidate_pb2_grpc.CandidateServiceStub(channel)
        try:
            answer = run(stub.GenerateDaily, request, patience, show)
        except grpc.RpcError as error:
            raise _failure(error) from None
        except KeyboardInterrupt:
            raise NotDone("stopped before the end; run it again") from None
    seconds = time.monotonic() - began
    if as_json:
        click.echo(json.dumps(_plain(answer) | {"seconds": round(seconds, 3)}, indent=2))
    else:
        console().print(_report(answer, seconds))
    if any(source.failed_user_count for source in answer.sources):
        raise click.exceptions.Exit(SOURCE_FAILED)


def run(
    call: Generate,
    request: generating_pb2.GenerateDailyRequest,
    patience: float,
    show: Show,
) -> Answer:
    """Call until the run is done; returns its last answer, with the counts of calls that broke off
    added as far as they were told.

    Raises the last grpc.RpcError when it is not of a kind to try again, or when no call has told
    of progress for `patience` seconds; NotDone when a call goes on and tells of none for so long.
    """
    broken: list[Answer] = []
    failures: list[grpc.RpcError] = []
    moved = time.monotonic()
    while True:
        last, under_way = Answer(), call(request)
        try:
            while (answer := _next(under_way, moved + patience if patience else None)) is not None:
                last = answer
                show(last)
                moved = time.monotonic()
                failures.clear()
            return _summed(last, broken)
        except grpc.RpcError as error:
            failures.append(error)
            if error.code() not in RETRIED or time.monotonic() - moved >= patience:
                raise
            if len(failures) == 1:
                click.echo(f"{error.code().name}: {error.details()}; trying again", err=True)
        except NotDone:
            if failures:
                raise failures[-1] from None
            raise
        broken.append(last)
        time.sleep(pause_s(len(failures)))


def _next(call: Call, end: float | None) -> Answer | None:
    """The next answer; None when the call is done. Raises NotDone when there is none by `end`, on
    the monotonic clock: a service that is stuck keeps its connections."""
    if end is None:
        return next(call, None)
    given_up = threading.Event()

    def give_up() -> None:
        given_up.set()
        call.cancel()

    timer = threading.Timer(max(end - time.monotonic(), 0.0), give_up)
    timer.start()
    try:
        return next(call, None)
    except grpc.RpcError:
        if given_up.is_set():
            raise NotDone("the service tells of no progress; run it again") from None
        raise
    finally:
        timer.cancel()


def _summed(last: Answer, broken: list[Answer]) -> Answer:
    total = Answer()
    total.CopyFrom(last)
    by_name = {source.source: source for source in total.sources}
    for earlier in broken:
        for source in earlier.sources:
            for name in SUMMED:
                _add(by_name[source.source], source, name)
            mine = by_name[source.source]
            squares = mine.lost_count_error**2 + source.lost_count_error**2
            mine.lost_count_error = squares**0.5
    return total


def _add(total: Any, part: Any, name: str) -> None:
    if name.endswith("_time"):
        both = getattr(total, name).ToTimedelta() + getattr(part, name).ToTimedelta()
        getattr(total, name).FromTimedelta(both)
    else:
        setattr(total, name, getattr(total, name) + getattr(part, name))


class NotDone(click.ClickException):
    """Not done; run it again."""

    exit_code = NOT_DONE


def _failure(error: grpc.RpcError) -> click.ClickException:
    kind = NotDone if error.code() in RETRIED else click.ClickException
    return kind(f"{error.code().name}: {error.details()}")


@contextmanager
def _shown(title: str) -> Iterator[Show]:
    """Where progress goes, on standard error: a bar on a terminal, else lines for a log."""
    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield _lines(title)
        return
    with _bar(screen) as bar:
        task = bar.add_task(title, total=None)
        yield lambda part: bar.update(task, completed=part.user_count, total=part.total_user_count)


def _lines(title: str) -> Show:
    told = float("-inf")

    def show(part: Answer) -> None:
        nonlocal told
        now = time.monotonic()
        if part.done or now - told >= LINE_SECONDS:
            told = now
            users = f"{part.user_count:,} of {part.total_user_count:,} users"
            click.echo(f"{title}: {users}", err=True)

    return show


def _bar(screen: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("users"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=screen, transient=True)


def _plain(answer: Answer) -> dict[str, Any]:
    return MessageToDict(
        answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _report(answer: Answer, seconds: float) -> RenderableType:
    table = Table(title="Sources", title_justify="left")
    for heading in ("Source", "Asked", "Skipped", "Proposed", "Events", "Dropped", "Failed"):
        table.add_column(heading, justify="left" if heading == "Source" else "right")
    for heading in ("Lost by skipping", "Time", "Saved"):
        table.add_column(heading, justify="right")
    for source in answer.sources:
        table.add_row(
            source.source,
            *(
                f"{number:,}"
                for number in (
                    source.asked_user_count,
                    source.skipped_user_count,
                    source.proposed_count,
                    source.accepted_count,
                    source.dropped_count,
                    source.failed_user_count,
                )
            ),
            f"{source.lost_count:,.0f} ± {source.lost_count_error:,.0f}",
            f"{source.ask_time.ToTimedelta().total_seconds():.2f} s",
            f"{source.saved_time.ToTimedelta().total_seconds():.2f} s",
        )
    stages = ", ".join(
        f"{stage.stage} {stage.wall_time.ToTimedelta().total_seconds():.1f} s"
        for stage in answer.stages
    )
    rate = answer.user_count / max(seconds, 1e-9)
    summary = f"{answer.user_count:,} users in {seconds:.1f} s ({rate:,.0f} a second); {stages}"
    return Group(table, Text(summary))
