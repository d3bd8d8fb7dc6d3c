"""What policy knows of users, for a batch."""

from collections.abc import Sequence

from heliograph.policy.v1alpha1 import recipients_pb2

from services.pacer.clients import Clients
from services.pacer.report import Report

Contexts = dict[str, recipients_pb2.UserContext]


async def user_contexts(clients: Clients, user_ids: Sequence[str], report: Report) -> Contexts:
    """Contexts by user, at most 1,000 at once; users that policy doesn't know are left out."""
    with report.timed("contexts", len(user_ids)):
        answer = await clients.policy.GetUserContexts(
            recipients_pb2.GetUserContextsRequest(user_ids=user_ids)
        )
    return {context.user_id: context for context in answer.contexts}
