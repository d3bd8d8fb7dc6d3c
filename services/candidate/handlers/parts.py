"""What the handlers call."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc

from services.candidate.asking import Answers, DailyGeneration
from services.candidate.attribute_types import AttributeTypes
from services.candidate.campaigns import Campaigns
from services.candidate.catalogue import CatalogueWriter
from services.candidate.event_types import EventTypes
from services.candidate.exposure import Exposures
from services.candidate.limits import Quotas
from services.candidate.pool import Pool
from services.candidate.publisher import Publisher
from services.candidate.rotation import Recommendations
from services.candidate.scenarios import Scenarios
from services.candidate.text.item_vectors import ItemVectors
from services.runtime.clock import Clock
from services.runtime.database import Database

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """The engines of one candidate service."""

    database: Database
    clock: Clock
    types: EventTypes
    publisher: Publisher
    attribute_types: AttributeTypes
    catalogue: CatalogueWriter
    pool: Pool
    audiences: Answers
    recommendations: Recommendations
    scenarios: Scenarios
    exposures: Exposures
    campaigns: Campaigns
    quotas: Quotas
    generator: DailyGeneration
    item_vectors: ItemVectors
    watch_interval: timedelta


class Calls:
    """Base of the groups of RPCs."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
