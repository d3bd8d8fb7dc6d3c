"""The table of methods is complete, and identities have the roles that the rule says."""

from __future__ import annotations

import pytest
from heliograph.candidate.v1alpha1 import candidate_pb2, sharding_pb2
from heliograph.copygen.v1alpha1 import copygen_pb2
from heliograph.pacer.v1alpha1 import pacer_pb2
from heliograph.policy.v1alpha1 import policy_pb2
from heliograph.ranker.v1alpha1 import ranker_pb2

from services.runtime.access import Authoriser, Role, identities, role_of
from services.runtime.access_table import METHODS
from services.runtime.errors import PermissionDenied
from services.runtime.settings import ConfigurationError

POLICY = "/heliograph.policy.v1alpha1.PolicyService/"


def all_methods() -> set[str]:
    """Full names of the methods in the protos."""
    return {
        f"/{service.full_name}/{method.name}"
        for module in (
            candidate_pb2,
            sharding_pb2,
            ranker_pb2,
            policy_pb2,
            copygen_pb2,
            pacer_pb2,
        )
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def test_the_table_names_every_method_and_nothing_else() -> None:
    assert set(METHODS) == all_methods()
    assert all(METHODS.values())


@pytest.mark.parametrize("method", ["Decide", "LeaseDeliveries", "AckDeliveries"])
def test_only_pacer_may_decide_and_deliver(method: str) -> None:
    assert METHODS[POLICY + method] == {Role.PACER}


@pytest.mark.parametrize("method", ["SetTarget", "Pause", "Resume"])
def test_only_operators_may_steer_and_stop(method: str) -> None:
    assert METHODS[POLICY + method] == {Role.OPERATOR}


@pytest.mark.parametrize(
    ("identity", "role"),
    [
        ("spiffe://prod.example/heliograph/pacer", Role.PACER),
        ("spiffe://prod.example/ns/a/heliograph/operator", Role.OPERATOR),
        ("pacer.heliograph", Role.PACER),
        ("pacer.heliograph.svc.cluster.local", Role.PACER),
        ("spiffe://heliograph/pacer", None),
        ("spiffe://prod.example/other/pacer", None),
        ("spiffe://prod.example/heliograph/root", None),
        ("pacer", None),
        ("pacer.example.com", None),
        ("pacer.heliographic.com", None),
        ("https://x/heliograph/pacer", None),
        ("", None),
        ("spiffe://corp/shop", Role.PRODUCER),
    ],
)
def test_roles_of_identities(identity: str, role: Role | None) -> None:
    assert role_of(identity, {"spiffe://corp/shop": "producer"}) is role


def test_the_common_name_counts_only_without_alternative_names() -> None:
    names = {
        "x509_common_name": [b"operator.heliograph"],
        "x509_subject_alternative_name": [b"app.heliograph"],
    }
    assert identities(names) == ["app.heliograph"]
    assert identities({"x509_common_name": [b"app.heliograph"]}) == ["app.heliograph"]
    assert identities({}) == []


def test_what_is_not_in_the_table_is_denied() -> None:
    authoriser = Authoriser(METHODS, {})
    pacer = {"x509_subject_alternative_name": [b"pacer.heliograph"]}
    authoriser.check(POLICY + "Decide", pacer)
    for method, caller, reason in (
        ("Unheard", pacer, "ROLE_NOT_ALLOWED"),
        ("SetTarget", pacer, "ROLE_NOT_ALLOWED"),
        ("Decide", {}, "UNKNOWN_IDENTITY"),
    ):
        with pytest.raises(PermissionDenied) as denied:
            authoriser.check(POLICY + method, caller)
        assert denied.value.reason == reason


def test_a_deployments_own_table_must_name_roles() -> None:
    with pytest.raises(ConfigurationError, match="HELIOGRAPH_CALLER_ROLES"):
        Authoriser(METHODS, {"spiffe://corp/shop": "root"})
