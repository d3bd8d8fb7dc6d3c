"""The life of a service's process: settings, signals, the owner's end, and the exit status."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

import uvloop
from pydantic import ValidationError
from pydantic_settings import SettingsError

from services.runtime import logs
from services.runtime.configuration import explain
from services.runtime.host import Bind
from services.runtime.metrics import MetricsEndpoint
from services.runtime.server import Service, require_free
from services.runtime.settings import ConfigurationError, RuntimeSettings

_OWNER_POLL_S = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main(name: str, bind: Bind) -> None:
    """Run one service until it is told to stop; ends the process.

    Exit status 0 after a stop, 1 when it cannot start, with one line that says what to change.
    """
    sys.exit(run_service(name, bind))


def run_service(name: str, bind: Bind) -> int:
    """Run one service by the environment's settings; returns the exit status."""
    return run(name, lambda settings: _serve(name, bind, settings))


def run(name: str, serve: Callable[[RuntimeSettings], Awaitable[None]]) -> int:
    """Run `serve` on uvloop with the settings in force; wrong settings become one line each."""
    try:
        settings = RuntimeSettings().with_secret_key()
        logs.configure(settings)
        uvloop.run(_started(serve, settings))
    except (ValidationError, SettingsError) as error:
        return _refuse(name, explain(error))
    except (ConfigurationError, OSError) as error:
        return _refuse(name, [str(error)])
    return 0


async def _started(
    serve: Callable[[RuntimeSettings], Awaitable[None]], settings: RuntimeSettings
) -> None:
    await serve(settings)


def _refuse(name: str, lines: list[str]) -> int:
    for line in lines:
        print(f"heliograph {name}: {line}", file=sys.stderr, flush=True)
    return 1


async def _serve(name: str, bind: Bind, settings: RuntimeSettings) -> None:
    stop = asyncio.Event()
    with_signals(stop)
    watching = watch_owner(settings.owner_pid, stop)
    service = Service(name, bind, settings)
    address = service.open_port(settings)
    endpoint = settings.endpoint(name)
    require_free(
        name,
        f"{settings.metrics_host}:{endpoint.metrics_port}",
        f"HELIOGRAPH_{name.upper()}_METRICS_PORT",
    )
    metrics = MetricsEndpoint(settings.metrics_host, endpoint.metrics_port)
    try:
        if await _until_stop(service.start(settings), stop):
            print(
                f"heliograph {name} listens on {address}, "
                f"metrics on http://{settings.metrics_host}:{metrics.port}/metrics",
                flush=True,
            )
            await stop.wait()
    finally:
        await service.stop(settings.shutdown_grace_s)
        metrics.close()
        if watching is not None:
            watching.cancel()


async def _until_stop(start: Awaitable[None], stop: asyncio.Event) -> bool:
    """Await `start`, but give it up when `stop` comes first; True when it was done."""
    starting = asyncio.ensure_future(start)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        await starting
        return True
    starting.cancel()
    with suppress(asyncio.CancelledError):
        await starting
    return False


def with_signals(stop: asyncio.Event) -> None:
    """SIGTERM and SIGINT set `stop`; a second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def received(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, received, number)


def watch_owner(pid: int, stop: asyncio.Event) -> asyncio.Task[None] | None:
    """Set `stop` when the process `pid` ends, however it ends; 0 watches none.

    The kernel tells through a pidfd (Linux 5.3 and later); elsewhere it is asked every second.
    The task returned belongs to the caller, who cancels it at the end.
    """
    if pid == 0:
        return None
    return asyncio.create_task(_watch(pid, stop))


async def _watch(pid: int, stop: asyncio.Event) -> None:
    try:
        await _ended(pid)
    finally:
        stop.set()


async def _ended(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):
        await _polled(pid)
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _polled(pid: int) -> None:
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        except PermissionError:
            pass
        await asyncio.sleep(_OWNER_POLL_S)
