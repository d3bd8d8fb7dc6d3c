"""Tells the services what is known before the first day: catalogue, users, history, recipients."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from heliograph.candidate.v1alpha1 import catalogue_pb2
from heliograph.policy.v1alpha1 import recipients_pb2, reports_pb2
from heliograph.type.v1alpha1 import attribute_pb2, event_pb2, notification_pb2

from simulation.connection import LONG_CALL_S, Services, batches, require_accepted
from simulation.movielens import ITEM_TYPE, Item
from simulation.recipients import Reach
from simulation.world import World, first_seen, interaction_weight, item_created, sittings

EVENT_TYPE = "item.suggestion"
"""What GenerateDaily makes in a default deployment."""
TIME_TO_LIVE = timedelta(days=2)
"""What the sources suggested and no decision took can still be sent on the next day."""
ACTIVITY_DAYS = 64
"""Sessions older than this change no activeness segment."""

PUSH = notification_pb2.CHANNEL_PUSH
EMAIL = notification_pb2.CHANNEL_EMAIL
IN_APP = notification_pb2.CHANNEL_IN_APP
ADDRESS = {PUSH: "push-token-{}", EMAIL: "user-{}@example.org", IN_APP: "{}"}

Value = attribute_pb2.AttributeValue


def timestamp(moment: datetime) -> Timestamp:
    """The protobuf form of an aware time."""
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def event_type() -> event_pb2.EventType:
    """The replay's event type, as a product team would register it."""
    lifetime = Duration()
    lifetime.FromTimedelta(TIME_TO_LIVE)
    year = "{% if item.attributes.year %} ({{ item.attributes.year }}){% endif %}"
    templates = [
        event_pb2.Template(channel=PUSH, title="{{ item.title }}", body=f"A film for you{year}."),
        event_pb2.Template(
            channel=EMAIL, title="Have you seen {{ item.title }}?", body="{{ item.text }}"
        ),
        event_pb2.Template(channel=IN_APP, title="{{ item.title }}", body="{{ item.text }}"),
    ]
    return event_pb2.EventType(
        name=EVENT_TYPE,
        description="A film that the user may like",
        route=event_pb2.ROUTE_RANKED,
        channels=[PUSH, EMAIL, IN_APP],
        in_app_fallback=True,
        time_to_live=lifetime,
        templates=templates,
        owner="replay",
    )


async def register_event_type(services: Services) -> None:
    """Register the replay's event type."""
    await services.candidate.PutEventType(
        catalogue_pb2.PutEventTypeRequest(request_id="replay", event_type=event_type())
    )


async def store_items(services: Services, world: World, seed: int) -> None:
    """Store the catalogue."""
    created = item_created(world, seed)
    items = [_item(item, created[row]) for row, item in enumerate(world.data.items)]
    requests = [catalogue_pb2.UpsertItemsRequest(items=batch) for batch in batches(items, 1000)]
    answer = await services.candidate.UpsertItems(iter(requests), timeout=LONG_CALL_S)
    require_accepted("items", answer)


async def store_users(services: Services, world: World) -> None:
    """Store the users with age, gender and occupation."""
    joined = first_seen(world)
    users = [
        event_pb2.User(
            user_id=user.user_id,
            attributes={
                "age": Value(int_value=user.age),
                "gender": Value(string_value=user.gender),
                "occupation": Value(string_value=user.occupation),
            },
            create_time=timestamp(joined[row]),
        )
        for row, user in enumerate(world.data.users)
    ]
    requests = [catalogue_pb2.UpsertUsersRequest(users=batch) for batch in batches(users, 1000)]
    answer = await services.candidate.UpsertUsers(iter(requests), timeout=LONG_CALL_S)
    require_accepted("users", answer)


async def store_history(services: Services, world: World) -> None:
    """Store the history's ratings as interactions."""
    answer = await services.candidate.RecordInteractions(_interactions(world), timeout=LONG_CALL_S)
    require_accepted("interactions", answer)


async def store_recipients(services: Services, world: World, reaches: Sequence[Reach]) -> None:
    """Store how the users can be reached."""
    joined = first_seen(world)
    recipients = [_recipient(world, reach, joined[reach.user]) for reach in reaches]
    requests = [
        recipients_pb2.UpsertRecipientsRequest(recipients=batch)
        for batch in batches(recipients, 1000)
    ]
    answer = await services.policy.UpsertRecipients(iter(requests), timeout=LONG_CALL_S)
    require_accepted("recipients", answer)


async def report_sittings(services: Services, world: World) -> None:
    """Report the history's sittings of the last 64 days as sessions."""
    since = world.start - timedelta(days=ACTIVITY_DAYS)
    sessions = []
    for sitting in sittings(world, since):
        user_id = world.data.users[sitting.user].user_id
        lasted = Duration()
        lasted.FromTimedelta(sitting.end - sitting.start)
        sessions.append(
            reports_pb2.Session(
                session_id=f"sitting-{user_id}-{int(sitting.start.timestamp())}",
                user_id=user_id,
                start_time=timestamp(sitting.start),
                duration=lasted,
            )
        )
    for batch in batches(sessions, 5000):
        answer = await services.policy.ReportSessions(
            reports_pb2.ReportSessionsRequest(sessions=batch), timeout=LONG_CALL_S
        )
        require_accepted("sessions", answer)


def _item(item: Item, created: datetime) -> event_pb2.Item:
    return event_pb2.Item(
        item_id=item.item_id,
        title=item.title,
        text=item.text,
        item_type=ITEM_TYPE,
        attributes={name: _value(value) for name, value in item.attributes.items()},
        create_time=timestamp(created),
    )


def _value(value: int | tuple[str, ...]) -> Value:
    if isinstance(value, int):
        return Value(int_value=value)
    return Value(list_value=attribute_pb2.StringList(values=value))


def _interactions(world: World) -> Iterator[catalogue_pb2.RecordInteractionsRequest]:
    history, data = world.history, world.data
    weights = [interaction_weight(stars) for stars in range(6)]
    for rows in batches(range(len(history)), 10_000):
        yield catalogue_pb2.RecordInteractionsRequest(
            interactions=[
                event_pb2.Interaction(
                    user_id=data.users[history.user[row]].user_id,
                    item_id=data.items[history.item[row]].item_id,
                    weight=weights[history.stars[row]],
                    interact_time=Timestamp(seconds=int(history.time[row])),
                    kind="rating",
                )
                for row in rows
            ]
        )


def _recipient(world: World, reach: Reach, joined: datetime) -> recipients_pb2.Recipient:
    user_id = world.data.users[reach.user].user_id
    channels = [IN_APP]
    channels += [PUSH] if reach.push else []
    channels += [EMAIL] if reach.email else []
    return recipients_pb2.Recipient(
        user_id=user_id,
        opt_ins=channels,
        time_zone=reach.time_zone,
        locale="en",
        endpoints=[
            recipients_pb2.Endpoint(channel=channel, address=ADDRESS[channel].format(user_id))
            for channel in channels
        ],
        create_time=timestamp(joined),
        slot_hours=reach.slot_hours,
    )
