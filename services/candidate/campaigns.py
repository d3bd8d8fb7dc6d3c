"""Campaigns: the audience of an item, turned into events."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from heliograph.candidate.v1alpha1 import campaigns_pb2, recommending_pb2
from sqlalchemy import Row

from services.candidate import limits, requests, withdrawals
from services.candidate.event_types import EventTypes
from services.candidate.events import Draft, event_id_of
from services.candidate.generation_store import QUERIES
from services.candidate.limits import Admitted, Spread
from services.candidate.messages import digest_of
from services.candidate.publisher import Publisher
from services.candidate.questions import Audience, Omission, Page
from services.candidate.rotation import Given, insert
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import (
    AlreadyExists,
    DomainError,
    FailedPrecondition,
    NotFound,
    ResourceExhausted,
)

METHOD = "LaunchCampaign"
BATCH = 1000
RUNNING = campaigns_pb2.CAMPAIGN_STATE_RUNNING
LAUNCHED = campaigns_pb2.CAMPAIGN_STATE_LAUNCHED
SOURCE = "campaign"


@dataclass(frozen=True, slots=True)
class Launch:
    """A campaign about to be launched."""

    request_id: str
    campaign: campaigns_pb2.Campaign
    """With the omissions, budgets and recommendation id of its audience."""
    digest: bytes
    """Of the campaign as it was asked for."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a launch would do now."""

    event_count: int
    expected_interactions: float
    omitted: dict[Omission, int]


class Campaigns:
    """Launches, goes on with and cancels campaigns.

    The audience is stored at launch. Its events are made in batches with ids that follow from the
    campaign, so a launch that was cut off goes on, at the next call or by a periodic task, and
    makes nothing twice. Each batch commits with its events, its place in the audience, and what it
    takes of spread caps and quotas.
    """

    def __init__(self, database: Database, types: EventTypes, publisher: Publisher) -> None:
        self._database = database
        self._types = types
        self._publisher = publisher

    async def replayed(self, launch: Launch, now: datetime) -> campaigns_pb2.Campaign | None:
        """The first answer of this launch's request id, None when it is new. A launch that was cut
        off is finished first. Raises AlreadyExists when the id was used for another campaign."""
        async with self._database.unit_of_work() as work:
            answer = await requests.answered(work, METHOD, launch.request_id, launch.digest)
            begun = await _begun(work, launch)
        if answer is not None:
            return campaigns_pb2.Campaign.FromString(answer)
        return await self._finish(launch, now) if begun else None

    async def forecast(
        self, campaign: campaigns_pb2.Campaign, audience: Audience, now: datetime
    ) -> Forecast:
        """What a launch would do now."""
        async with self._database.read() as work:
            return await self._forecast(work, campaign, audience, now)

    async def _forecast(
        self,
        work: UnitOfWork,
        campaign: campaigns_pb2.Campaign,
        audience: Audience,
        now: datetime,
    ) -> Forecast:
        team = await self._team(work, campaign)
        found = await limits.admitted(work, audience.ids, _spread(campaign), team, now)
        expected = sum(audience.relevance[place] for place in found.places)
        return Forecast(len(found.places), expected, found.omitted)

    async def launch(
        self, launch: Launch, audience: Audience, now: datetime
    ) -> campaigns_pb2.Campaign:
        """Store the campaign and make its events; of concurrent launches by one request id the
        first does, and all get its answer. Raises AlreadyExists for a campaign id in use,
        FailedPrecondition for an empty audience or a spread cap that is reached, ResourceExhausted
        for a team's quota that is used up."""
        async with self._database.unit_of_work() as work:
            answer = await requests.answered(work, METHOD, launch.request_id, launch.digest)
            if answer is not None:
                return campaigns_pb2.Campaign.FromString(answer)
            if not await _begun(work, launch):
                await self._begin(work, launch, audience, now)
                await work.commit()
        return await self._finish(launch, now)

    async def _begin(
        self, work: UnitOfWork, launch: Launch, audience: Audience, now: datetime
    ) -> None:
        """Store the campaign, with its audience."""
        if not audience.ids:
            raise _empty(audience)
        forecast = await self._forecast(work, launch.campaign, audience, now)
        if not forecast.event_count:
            raise _no_events(forecast)
        campaign_id = launch.campaign.campaign_id
        params = {
            "campaign_id": campaign_id,
            "request_id": launch.request_id,
            "digest": launch.digest,
            "body": launch.campaign.SerializeToString(deterministic=True),
            "audience_size": len(audience.ids),
            "now": now,
        }
        await work.execute(QUERIES.insert_campaign, params)
        members = {
            "campaign_id": campaign_id,
            "user_ids": list(audience.ids),
            "scores": list(audience.relevance),
        }
        await work.execute(QUERIES.insert_members, members)
        page = Page(launch.campaign.recommendation_id, now)
        scenario = launch.campaign.audience.scenario
        await insert(work, [Given(page, audience.subject, scenario, now, audience.ids)])

    async def _finish(self, launch: Launch, now: datetime) -> campaigns_pb2.Campaign:
        campaign_id = launch.campaign.campaign_id
        await self.resume(campaign_id, now)
        campaign = await self.get(campaign_id)
        async with self._database.unit_of_work() as work:
            answer = await requests.answered(work, METHOD, launch.request_id, launch.digest)
            if answer is not None:
                return campaigns_pb2.Campaign.FromString(answer)
            body = campaign.SerializeToString()
            await requests.keep(work, METHOD, launch.request_id, launch.digest, body, now)
            await work.commit()
        return campaign

    async def resume(self, campaign_id: str, now: datetime) -> None:
        """Make the events that are still to be made; nothing for a campaign that doesn't run."""
        while await self._next_batch(campaign_id, now):
            pass

    async def resume_all(self, before: datetime, now: datetime) -> None:
        """Go on with all running campaigns launched before a time."""
        async with self._database.read() as work:
            rows = await work.rows(QUERIES.running_campaigns, {"before": before})
        for row in rows:
            await self.resume(row.campaign_id, now)

    async def _next_batch(self, campaign_id: str, now: datetime) -> bool:
        """Make one batch of events; whether there are more to make."""
        async with self._database.unit_of_work() as work:
            rows = await work.rows(QUERIES.lock_campaign, {"campaign_id": campaign_id})
            if not rows or rows[0].state != RUNNING:
                return False
            stored = rows[0]
            params = {
                "campaign_id": campaign_id,
                "position": stored.next_position,
                "count": BATCH,
            }
            members = await work.rows(QUERIES.next_members, params)
            more = len(members) == BATCH
            progress = {
                "campaign_id": campaign_id,
                "position": members[-1].position + 1 if members else stored.next_position,
                "state": RUNNING if more else LAUNCHED,
            }
            campaign = campaigns_pb2.Campaign.FromString(stored.body)
            made = await self._make(work, campaign, members, now)
            await work.execute(QUERIES.advance_campaign, progress | made)
            await work.commit()
        return more

    async def _make(
        self,
        work: UnitOfWork,
        campaign: campaigns_pb2.Campaign,
        members: list[Row[tuple[object, ...]]],
        now: datetime,
    ) -> dict[str, float]:
        """Make the events of those members who are within the limits; what to add to the
        campaign's counts."""
        team = await self._team(work, campaign)
        await limits.lock(work, campaign.item_id, team)
        users = [row.user_id for row in members]
        found: Admitted = await limits.admitted(work, users, _spread(campaign), team, now)
        chosen = [members[place] for place in found.places]
        drafts = _drafts(campaign, [(row.user_id, row.score) for row in chosen])
        published = await self._publisher.publish_in(work, drafts, now)
        await limits.use(work, team, len(published.added), now)
        return {
            "events": len(published.added),
            "expected": sum(drafts[place].source_score for place in published.added.values()),
            "spread_omitted": found.omitted.get(Omission.SPREAD_CAP, 0),
            "quota_omitted": found.omitted.get(Omission.TEAM_QUOTA, 0),
            "refused": len(drafts) - len(published.added),
        }

    async def _team(self, work: UnitOfWork, campaign: campaigns_pb2.Campaign) -> str:
        if campaign.team:
            return campaign.team
        return (await self._types.of(work, [campaign.event_type]))[campaign.event_type].owner

    async def get(self, campaign_id: str) -> campaigns_pb2.Campaign:
        """A campaign with its progress. Raises NotFound."""
        async with self._database.read() as work:
            rows = await work.rows(QUERIES.get_campaign, {"campaign_id": campaign_id})
        return _stored(campaign_id, rows)

    async def cancel(self, campaign_id: str, now: datetime) -> tuple[campaigns_pb2.Campaign, int]:
        """End a campaign; returns it and how many waiting events were cancelled. Raises
        NotFound."""
        async with self._database.unit_of_work() as work:
            params = {"campaign_id": campaign_id}
            if not await work.rows(QUERIES.lock_campaign, params):
                raise _unknown(campaign_id)
            await work.execute(QUERIES.cancel_campaign, params)
            cancelled = await withdrawals.withdraw(
                work, campaign_ids=[campaign_id], reason="CAMPAIGN_CANCELLED", now=now
            )
            await work.commit()
        return await self.get(campaign_id), len(cancelled)


def campaign_exists() -> AlreadyExists:
    """The error for a campaign id that is in use."""
    return AlreadyExists("there is a campaign of this id already", reason="CAMPAIGN_EXISTS")


async def _begun(work: UnitOfWork, launch: Launch) -> bool:
    """Whether the request id has launched this campaign; its events may still have to be made.
    Raises AlreadyExists when it has launched another."""
    rows = await work.rows(QUERIES.campaign_of_request, {"request_id": launch.request_id})
    if rows and bytes(rows[0].digest) != launch.digest:
        raise requests.reused()
    return bool(rows)


def _empty(audience: Audience) -> DomainError:
    omitted = {reason.name: str(count) for reason, count in sorted(audience.omissions.items())}
    told = ", ".join(f"{count} {reason}" for reason, count in omitted.items())
    why = f"all users are left out: {told}" if told else "there are no users"
    return FailedPrecondition(
        f"the audience is empty: {why}", reason="EMPTY_AUDIENCE", metadata=omitted
    )


def _unknown(campaign_id: str) -> NotFound:
    return NotFound(f"there is no campaign {campaign_id!r}", reason="UNKNOWN_CAMPAIGN")


def _no_events(forecast: Forecast) -> DomainError:
    if Omission.TEAM_QUOTA in forecast.omitted:
        return ResourceExhausted("the team's quota of today is used up", reason="TEAM_QUOTA")
    return FailedPrecondition("the item's spread cap is reached", reason="SPREAD_CAP")


def _spread(campaign: campaigns_pb2.Campaign) -> Spread | None:
    if not campaign.HasField("spread_cap"):
        return None
    cap = campaign.spread_cap
    return Spread(campaign.item_id, cap.user_count, cap.window.ToTimedelta())


def _stored(campaign_id: str, rows: list[Row[tuple[object, ...]]]) -> campaigns_pb2.Campaign:
    if not rows:
        raise _unknown(campaign_id)
    row = rows[0]
    campaign = campaigns_pb2.Campaign.FromString(row.body)
    campaign.state = row.state
    campaign.audience_size = row.audience_size
    campaign.event_count = row.event_count
    campaign.expected_interaction_count = row.expected
    for omission, count in (
        (recommending_pb2.OMISSION_SPREAD_CAP, row.spread_omitted),
        (recommending_pb2.OMISSION_TEAM_QUOTA, row.quota_omitted),
        (recommending_pb2.OMISSION_REFUSED, row.refused),
    ):
        if count:
            campaign.omissions.add(omission=omission, count=count)
    return campaign


def _drafts(campaign: campaigns_pb2.Campaign, members: Sequence[tuple[str, float]]) -> list[Draft]:
    """The events of members, each with a score."""
    expires = campaign.HasField("expire_time")
    shared = Draft(
        user_id="",
        event_id=event_id_of("campaign", campaign.campaign_id),
        event_type=campaign.event_type,
        digest=digest_of(campaign.SerializeToString(deterministic=True)),
        item_ids=(campaign.item_id,),
        payload=dict(campaign.payload),
        expire_time=campaign.expire_time.ToDatetime(UTC) if expires else None,
        source=SOURCE,
        campaign_id=campaign.campaign_id,
    )
    return [shared._replace(user_id=user, source_score=score) for user, score in members]
