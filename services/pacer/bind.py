"""Puts the pacer together."""

from datetime import datetime, timedelta

from heliograph.pacer.v1alpha1 import pacer_pb2_grpc

from services.pacer.adapters import by_channel
from services.pacer.clients import Clients
from services.pacer.erasure import Erasure
from services.pacer.handlers import PacerHandler
from services.pacer.leases import Leases, Owner
from services.pacer.loop import Loop, Stages, Wake
from services.pacer.preview import Preview
from services.pacer.settings import PacerSettings
from services.pacer.stages.arrivals import Arrivals
from services.pacer.stages.deliveries import Deliveries
from services.pacer.stages.ready import Ready
from services.pacer.stages.slots import Slots
from services.pacer.store.attempts import AttemptStore
from services.pacer.store.erasures import ErasureStore
from services.pacer.store.inbox import InboxStore
from services.pacer.store.slots import SlotStore
from services.runtime import Host

ERASURE_EVERY = timedelta(minutes=1)
PRUNE_EVERY = timedelta(hours=6)


async def bind(host: Host) -> None:
    """Build the stages, serve the RPCs, and outside simulation mode run the loop."""
    settings = PacerSettings()
    clock, log = host.clock, host.log
    clients = Clients.of(host.peers)
    slots, inbox = SlotStore(host.database), InboxStore(host.database)
    attempts = AttemptStore(host.database)
    adapters = by_channel(settings, inbox, host.settings.state_dir)
    leases = {
        stage: Leases(stage, clock, settings.lease, log)
        for stage in ("arrivals", "ready", "slots", "deliveries")
    }
    owner, wake = Owner(), Wake()
    stages = Stages(
        Arrivals(settings, clock, clients, slots, leases["arrivals"]),
        Ready(settings, clock, clients, owner, leases["ready"], log, wake.set),
        Slots(settings, clock, clients, slots, owner, leases["slots"], log, wake.set),
        Deliveries(settings, clock, clients, adapters, attempts, owner, leases["deliveries"], log),
    )
    loop = Loop(settings, stages, wake)
    erasure = Erasure(clock, clients, ErasureStore(host.database), log, 2 * settings.lease)

    async def prune(now: datetime) -> None:
        oldest = now - timedelta(days=settings.slot_days)
        await slots.prune(oldest)
        await attempts.prune(oldest.date())
        await inbox.prune(now - timedelta(days=settings.inbox_days))

    host.add(
        pacer_pb2_grpc.add_PacerServiceServicer_to_server,
        PacerHandler(
            clock,
            loop,
            Preview(clock, clients, adapters),
            erasure,
            slots,
            inbox,
            attempts,
            leases,
        ),
    )
    host.periodic("erasures", ERASURE_EVERY, erasure.resume)
    host.periodic("prune", PRUNE_EVERY, prune)
    if not clock.simulation:
        host.background("arrivals", loop.run_arrivals)
        host.background("ready", loop.run_ready)
        host.background("slots", loop.run_slots)
        host.background("deliveries", loop.run_deliveries)
