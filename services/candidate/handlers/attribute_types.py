"""Types of attributes."""

from heliograph.candidate.v1alpha1 import attribute_types_pb2

from services.candidate.attribute_types import Decided, Owner
from services.candidate.attributes import ITEM_TYPE
from services.candidate.expressions import AttributeType
from services.candidate.handlers.parts import Calls, Context
from services.candidate.messages import write_time
from services.runtime import paging
from services.runtime.errors import FieldError, InvalidArgument

_OWNERS = {
    attribute_types_pb2.ATTRIBUTE_OWNER_USER: Owner.USER,
    attribute_types_pb2.ATTRIBUTE_OWNER_ITEM: Owner.ITEM,
}


class AttributeTypeCalls(Calls):
    """SetAttributeType, ListAttributeTypes."""

    async def SetAttributeType(
        self, request: attribute_types_pb2.SetAttributeTypeRequest, context: Context
    ) -> attribute_types_pb2.SetAttributeTypeResponse:
        given = request.attribute
        owner, kind = _OWNERS[given.owner], _read_type(given.type)
        if (owner, given.name) == (Owner.ITEM, ITEM_TYPE) and kind is not AttributeType.STRING:
            problem = f"the items' {ITEM_TYPE} is a string"
            fields = [FieldError("attribute.type", problem)]
            raise InvalidArgument(problem, reason="ATTRIBUTE_TYPE", fields=fields)
        now = self.parts.clock.now()
        await self.parts.attribute_types.set(owner, given.name, kind, request.request_id, now)
        return attribute_types_pb2.SetAttributeTypeResponse()

    async def ListAttributeTypes(
        self, request: attribute_types_pb2.ListAttributeTypesRequest, context: Context
    ) -> attribute_types_pb2.ListAttributeTypesResponse:
        position = paging.decode(request.page_token, [str, str])
        size = paging.page_size(request.page_size)
        after = ("", "") if position is None else (str(position[0]), str(position[1]))
        found = await self.parts.attribute_types.page(after, size + 1)
        more = len(found) > size
        token = paging.encode([found[size - 1].owner.value, found[size - 1].name]) if more else ""
        return attribute_types_pb2.ListAttributeTypesResponse(
            attributes=[_write(each) for each in found[:size]], next_page_token=token
        )


def _read_type(kind: attribute_types_pb2.AttributeType.ValueType) -> AttributeType:
    name = attribute_types_pb2.AttributeType.Name(kind)
    return AttributeType[name.removeprefix("ATTRIBUTE_TYPE_")]


def _write(decided: Decided) -> attribute_types_pb2.AttributeDeclaration:
    owner = attribute_types_pb2.AttributeOwner.Value(f"ATTRIBUTE_OWNER_{decided.owner.name}")
    kind = attribute_types_pb2.AttributeType.Value(f"ATTRIBUTE_TYPE_{decided.type.name}")
    return attribute_types_pb2.AttributeDeclaration(
        owner=owner, name=decided.name, type=kind, set_time=write_time(decided.time)
    )
