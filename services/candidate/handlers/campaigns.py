"""Campaigns."""

from heliograph.candidate.v1alpha1 import campaigns_pb2

from services.candidate.campaigns import Launch
from services.candidate.handlers.parts import Calls, Context
from services.candidate.handlers.recommending import read_choice
from services.candidate.messages import Refused, digest_of, read_time
from services.runtime.errors import FieldError, InvalidArgument


class CampaignCalls(Calls):
    """LaunchCampaign, GetCampaign, CancelCampaign."""

    async def LaunchCampaign(
        self, request: campaigns_pb2.LaunchCampaignRequest, context: Context
    ) -> campaigns_pb2.LaunchCampaignResponse:
        campaign, now = request.campaign, self.parts.clock.now()
        for name in ("state", "audience_size", "event_count"):
            campaign.ClearField(name)
        digest = digest_of(campaign.SerializeToString(deterministic=True))
        launch = Launch(request.request_id, campaign, digest)
        if not request.dry_run:
            answer = await self.parts.campaigns.replayed(launch, now)
            if answer is not None:
                return campaigns_pb2.LaunchCampaignResponse(campaign=answer)
        choice = read_choice(campaign.audience)
        await self.parts.types.get(campaign.event_type)
        if campaign.HasField("expire_time"):
            try:
                expired = read_time(campaign.expire_time, "campaign.expire_time") <= now
            except Refused as error:
                raise _wrong_expiry(error.refusal.message) from None
            if expired:
                raise _wrong_expiry("campaign.expire_time has passed")
        audience = await self.parts.audiences.users_for_item(campaign.item_id, choice)
        if request.dry_run:
            campaign.audience_size = len(audience.ids)
            return campaigns_pb2.LaunchCampaignResponse(campaign=campaign)
        return campaigns_pb2.LaunchCampaignResponse(
            campaign=await self.parts.campaigns.launch(launch, audience, now)
        )

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


def _wrong_expiry(message: str) -> InvalidArgument:
    fields = [FieldError("campaign.expire_time", message)]
    return InvalidArgument(message, reason="EXPIRED", fields=fields)
