"""Wires the policy service."""

from heliograph.policy.v1alpha1 import policy_pb2_grpc

from services.policy.control import Controller, Outlook
from services.policy.decider import Decider
from services.policy.experiment_store import ExperimentStore
from services.policy.handlers.control import ControlHandlers, Ticks
from services.policy.handlers.decide import DecideHandlers, ValidEvents
from services.policy.handlers.explain import ExplainHandlers
from services.policy.handlers.records import RecordHandlers, RecordRules
from services.policy.handlers.sendability import SendabilityHandlers
from services.policy.retention import Retention
from services.policy.settings import PolicySettings
from services.runtime.errors import Aborted, DomainError
from services.runtime.host import Host


class PolicyServicer(
    DecideHandlers,
    ControlHandlers,
    ExplainHandlers,
    SendabilityHandlers,
    RecordHandlers,
    policy_pb2_grpc.PolicyServiceServicer,
):
    """All calls of the service."""

    def __init__(self, host: Host, settings: PolicySettings) -> None:
        experiments = ExperimentStore()
        rules = RecordRules(settings.slots, settings.quiet_hours, settings.reports)
        RecordHandlers.__init__(self, host, rules, experiments)
        self.settings = settings
        self.valid_events = ValidEvents()
        self.decider = Decider(host.database, host.clock, settings, experiments)
        self.outlook = Outlook(settings, experiments)
        self.controller = Controller(host.database, settings, self.outlook)
        self.ticks = Ticks()


def _decided_before() -> DomainError:
    """Deciders wait for one another, so only a call that bypassed the locks can run into this."""
    return Aborted("the slot or event was decided by a concurrent call; repeat the call")


async def bind(host: Host) -> None:
    """Build the service on its host."""
    settings = PolicySettings()
    servicer = PolicyServicer(host, settings)
    host.map_constraints(
        {
            "decisions_pkey": _decided_before,
            "decisions_decision_id_key": _decided_before,
            "decided_events_pkey": _decided_before,
        }
    )
    host.add(policy_pb2_grpc.add_PolicyServiceServicer_to_server, servicer)
    host.periodic("controller", settings.tick, servicer.tick)
    host.periodic("clean", settings.clean_every, Retention(host.database, settings).clean)
