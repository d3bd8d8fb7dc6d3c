"""All calls about what policy keeps, wired to their parts."""

from dataclasses import dataclass, field

from services.policy import experiment_store
from services.policy.addresses import AddressBook
from services.policy.contexts import SlotRule
from services.policy.engagements import ReportLimits
from services.policy.erasure import Erasure, Tombstones
from services.policy.experiment_store import ExperimentStore
from services.policy.handlers.deliveries import DeliveryHandlers
from services.policy.handlers.engagements import EngagementHandlers
from services.policy.handlers.erase import EraseHandlers
from services.policy.handlers.experiments import ExperimentHandlers
from services.policy.handlers.feed import FeedHandlers
from services.policy.handlers.recipients import RecipientHandlers
from services.policy.handlers.switches import SwitchHandlers
from services.policy.outbox import Outbox
from services.policy.preferences import QuietHours
from services.policy.recipients import Recipients
from services.policy.reports import Reports
from services.runtime.host import Host


@dataclass(frozen=True, slots=True)
class RecordRules:
    """The deployment's defaults that these calls obey."""

    slots: SlotRule = field(default_factory=SlotRule)
    quiet_hours: QuietHours = field(default_factory=lambda: QuietHours(22 * 60, 8 * 60))
    reports: ReportLimits = field(default_factory=ReportLimits)


class RecordHandlers(
    RecipientHandlers,
    DeliveryHandlers,
    EngagementHandlers,
    FeedHandlers,
    ExperimentHandlers,
    SwitchHandlers,
    EraseHandlers,
):
    """The servicer's part beside deciding and control."""

    def __init__(self, host: Host, rules: RecordRules, experiments: ExperimentStore) -> None:
        database, clock = host.database, host.clock
        addresses = AddressBook(host.settings.secret_key)
        tombstones = Tombstones(host.settings.secret_key)
        self.database = database
        self.clock = clock
        self.experiments = experiments
        self.default_quiet_hours = rules.quiet_hours
        self.recipients = Recipients(database, clock, addresses, experiments, rules.slots)
        self.outbox = Outbox(database, clock, addresses, rules.quiet_hours)
        self.reports = Reports(database, clock, tombstones, rules.reports)
        self.erasure = Erasure(database, clock, tombstones)
        host.map_constraints(experiment_store.CONSTRAINTS)
