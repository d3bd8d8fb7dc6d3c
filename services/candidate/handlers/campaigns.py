"""Campaigns and the quotas of teams."""

from datetime import datetime

from heliograph.candidate.v1alpha1 import campaigns_pb2

from services.candidate.campaigns import Launch
from services.candidate.handlers.answers import write_budget, write_horizon, write_omissions
from services.candidate.handlers.choices import first_page, read_choice
from services.candidate.handlers.parts import Calls, Context
from services.candidate.limits import Quota
from services.candidate.messages import Refused, digest_of, read_time
from services.candidate.questions import Audience, Direction, Page
from services.runtime import paging
from services.runtime.errors import FieldError, InvalidArgument


class CampaignCalls(Calls):
    """LaunchCampaign to ListTeamQuotas."""

    async def LaunchCampaign(
        self, request: campaigns_pb2.LaunchCampaignRequest, context: Context
    ) -> campaigns_pb2.LaunchCampaignResponse:
        campaign, now = request.campaign, self.parts.clock.now()
        _clear_output(campaign)
        digest = digest_of(campaign.SerializeToString(deterministic=True))
        launch = Launch(request.request_id, campaign, digest)
        if not request.dry_run:
            answer = await self.parts.campaigns.replayed(launch, now)
            if answer is not None:
                return campaigns_pb2.LaunchCampaignResponse(campaign=answer)
        page = first_page(now)
        audience = await self._audience(campaign, page)
        if not request.dry_run:
            campaign.recommendation_id = page.recommendation_id
            launched = await self.parts.campaigns.launch(launch, audience, now)
            return campaigns_pb2.LaunchCampaignResponse(campaign=launched)
        forecast = await self.parts.campaigns.forecast(campaign, audience, now)
        campaign.audience_size = len(audience.ids)
        campaign.event_count = forecast.event_count
        campaign.expected_interaction_count = forecast.expected_interactions
        campaign.omissions.extend(write_omissions(forecast.omitted))
        return campaigns_pb2.LaunchCampaignResponse(campaign=campaign)

    async def _audience(self, campaign: campaigns_pb2.Campaign, page: Page) -> Audience:
        """The audience of a campaign whose type and expiry are right; what is to be told of it is
        written into the campaign."""
        applied = await self.parts.scenarios.applied(
            campaign.audience, Direction.USERS_TO_ITEM, campaign.item_id
        )
        await self.parts.types.get(campaign.event_type)
        _check_expiry(campaign, page.moment)
        audience = await self.parts.audiences.users_for_item(
            campaign.item_id, read_choice(applied), page
        )
        campaign.omissions.extend(write_omissions(audience.omissions))
        budget = write_budget(audience.budget)
        if budget is not None:
            campaign.budget.CopyFrom(budget)
        horizon = write_horizon(audience.horizon)
        if horizon is not None:
            campaign.horizon.CopyFrom(horizon)
        return audience

    async def GetCampaign(
        self, request: campaigns_pb2.GetCampaignRequest, context: Context
    ) -> campaigns_pb2.GetCampaignResponse:
        return campaigns_pb2.GetCampaignResponse(
            campaign=await self.parts.campaigns.get(request.campaign_id)
        )

    async def CancelCampaign(
        self, request: campaigns_pb2.CancelCampaignRequest, context: Context
    ) -> campaigns_pb2.CancelCampaignResponse:
        now = self.parts.clock.now()
        campaign, count = await self.parts.campaigns.cancel(request.campaign_id, now)
        return campaigns_pb2.CancelCampaignResponse(campaign=campaign, cancelled_count=count)

    async def PutTeamQuota(
        self, request: campaigns_pb2.PutTeamQuotaRequest, context: Context
    ) -> campaigns_pb2.PutTeamQuotaResponse:
        request.quota.ClearField("used_today")
        limited = request.quota.HasField("events_per_day")
        quota = Quota(request.quota.team, request.quota.events_per_day if limited else None)
        await self.parts.quotas.put(quota, request.request_id, self.parts.clock.now())
        return campaigns_pb2.PutTeamQuotaResponse(quota=request.quota)

    async def ListTeamQuotas(
        self, request: campaigns_pb2.ListTeamQuotasRequest, context: Context
    ) -> campaigns_pb2.ListTeamQuotasResponse:
        position = paging.decode(request.page_token, [str])
        size = paging.page_size(request.page_size)
        after = "" if position is None else str(position[0])
        found = await self.parts.quotas.page(after, size + 1, self.parts.clock.now())
        token = paging.encode([found[size - 1].team]) if len(found) > size else ""
        quotas = [
            campaigns_pb2.TeamQuota(
                team=quota.team, events_per_day=quota.events_per_day, used_today=quota.used
            )
            for quota in found[:size]
        ]
        return campaigns_pb2.ListTeamQuotasResponse(quotas=quotas, next_page_token=token)


def _clear_output(campaign: campaigns_pb2.Campaign) -> None:
    for name in (
        "state",
        "audience_size",
        "event_count",
        "omissions",
        "budget",
        "horizon",
        "recommendation_id",
        "expected_interaction_count",
    ):
        campaign.ClearField(name)


def _check_expiry(campaign: campaigns_pb2.Campaign, now: datetime) -> None:
    if not campaign.HasField("expire_time"):
        return
    try:
        expired = read_time(campaign.expire_time, "campaign.expire_time") <= now
    except Refused as error:
        raise _wrong_expiry(error.refusal.message) from None
    if expired:
        raise _wrong_expiry("campaign.expire_time has passed")


def _wrong_expiry(message: str) -> InvalidArgument:
    fields = [FieldError("campaign.expire_time", message)]
    return InvalidArgument(message, reason="EXPIRED", fields=fields)
