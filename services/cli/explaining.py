"""`heliograph explain`: what every service knows about a decision, or about a user."""

from __future__ import annotations

import json
import re
from typing import Any

import click
import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from heliograph.candidate.v1alpha1 import candidate_pb2_grpc, publishing_pb2
from heliograph.copygen.v1alpha1 import copygen_pb2, copygen_pb2_grpc
from heliograph.pacer.v1alpha1 import pacer_pb2, pacer_pb2_grpc
from heliograph.policy.v1alpha1 import explanation_pb2, policy_pb2_grpc, recipients_pb2
from heliograph.ranker.v1alpha1 import ranker_pb2, ranker_pb2_grpc

from services.cli import explanation_tables as tables
from services.cli.launch import open_channel
from services.cli.serving import told_plainly
from services.cli.terminal import console
from services.runtime.settings import RuntimeSettings

CALL_SECONDS = 10.0
_DECISION_ID = re.compile(r"\d{8}\.[0-9a-f]{20}").fullmatch


class Services:
    """Blocking stubs of all services."""

    def __init__(self, settings: RuntimeSettings) -> None:
        def channel(name: str) -> grpc.Channel:
            return open_channel(settings.endpoint(name).target, settings)

        self.candidate = candidate_pb2_grpc.CandidateServiceStub(channel("candidate"))
        self.ranker = ranker_pb2_grpc.RankerServiceStub(channel("ranker"))
        self.policy = policy_pb2_grpc.PolicyServiceStub(channel("policy"))
        self.copygen = copygen_pb2_grpc.CopygenServiceStub(channel("copygen"))
        self.pacer = pacer_pb2_grpc.PacerServiceStub(channel("pacer"))


@click.command()
@click.argument("subject")
@click.option("--limit", default=10, show_default=True, help="Decisions of a user to show.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@told_plainly
def explain(subject: str, limit: int, as_json: bool) -> None:
    """Why a user got, or did not get, something. SUBJECT is a decision id or a user id."""
    services = Services(RuntimeSettings())
    try:
        if _DECISION_ID(subject):
            parts = decision_parts(services, subject)
        else:
            parts = user_parts(services, subject, limit)
    except grpc.RpcError as error:
        raise click.ClickException(_told(error)) from None
    if as_json:
        click.echo(json.dumps({name: _plain(part) for name, part in parts.items()}, indent=2))
        return
    printed = console()
    for table in tables.render(parts):
        printed.print(table)


def decision_parts(services: Services, decision_id: str) -> dict[str, Message]:
    """The answers of all services about one decision, by part."""
    request = explanation_pb2.ExplainDecisionRequest(decision_id=decision_id)
    explained = services.policy.ExplainDecision(request, timeout=CALL_SECONDS)
    decision = explained.decision
    parts: dict[str, Message] = {"decision": explained}
    parts["context"] = services.policy.GetUserContexts(
        recipients_pb2.GetUserContextsRequest(user_ids=[decision.user_id]), timeout=CALL_SECONDS
    )
    parts["events"] = services.candidate.ListUserEvents(
        publishing_pb2.ListUserEventsRequest(
            user_id=decision.user_id, event_id=decision.event_id, page_size=100
        ),
        timeout=CALL_SECONDS,
    )
    if decision.rank_id:
        snapshot = _unless_gone(
            services.ranker.GetSnapshot,
            ranker_pb2.GetSnapshotRequest(rank_id=decision.rank_id, user_id=decision.user_id),
        )
        if snapshot is not None:
            parts["features"] = snapshot
    if decision.delivery_id:
        parts["copy"] = services.copygen.ListChoices(
            copygen_pb2.ListChoicesRequest(delivery_ids=[decision.delivery_id]),
            timeout=CALL_SECONDS,
        )
        parts["attempts"] = services.pacer.ListAttempts(
            pacer_pb2.ListAttemptsRequest(delivery_ids=[decision.delivery_id]),
            timeout=CALL_SECONDS,
        )
    return parts


def user_parts(services: Services, user_id: str, limit: int) -> dict[str, Message]:
    """The answers of all services about one user, by part."""
    contexts = services.policy.GetUserContexts(
        recipients_pb2.GetUserContextsRequest(user_ids=[user_id]), timeout=CALL_SECONDS
    )
    if not contexts.contexts:
        raise click.ClickException(
            f"policy knows no recipient {user_id!r}; UpsertRecipients makes one"
        )
    return {
        "context": contexts,
        "decisions": services.policy.ListDecisions(
            explanation_pb2.ListDecisionsRequest(user_id=user_id, page_size=limit),
            timeout=CALL_SECONDS,
        ),
        "events": services.candidate.ListUserEvents(
            publishing_pb2.ListUserEventsRequest(user_id=user_id, page_size=limit),
            timeout=CALL_SECONDS,
        ),
        "slots": services.pacer.ListSlots(
            pacer_pb2.ListSlotsRequest(user_id=user_id, page_size=limit), timeout=CALL_SECONDS
        ),
        "inbox": services.pacer.ReadInbox(
            pacer_pb2.ReadInboxRequest(user_id=user_id, page_size=limit), timeout=CALL_SECONDS
        ),
    }


def _unless_gone(call: Any, request: Message) -> Message | None:
    """The answer, or None when what it is about has been dropped by retention."""
    try:
        answer: Message = call(request, timeout=CALL_SECONDS)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.NOT_FOUND:
            return None
        raise
    return answer


def _told(error: grpc.RpcError) -> str:
    if error.code() == grpc.StatusCode.UNAVAILABLE:
        return f"the services can't be reached ({error.details()}); start them with `heliograph up`"
    return f"{error.code().name}: {error.details()}"


def _plain(part: Message) -> dict[str, Any]:
    return MessageToDict(
        part, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
