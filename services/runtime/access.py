"""Who may call what: a caller's roles come from its certificate, a method's from one table."""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from services.runtime.errors import PermissionDenied
from services.runtime.settings import ConfigurationError


class Role(StrEnum):
    """What a caller is: one of the services, or one of the kinds of clients."""

    CANDIDATE = "candidate"
    RANKER = "ranker"
    POLICY = "policy"
    COPYGEN = "copygen"
    PACER = "pacer"
    OPERATOR = "operator"
    """Runs the system: targets, stop switches, models, explanations."""
    PRODUCER = "producer"
    """A product team: event types, events, campaigns, items and interactions."""
    RELEVANCE = "relevance"
    """Growth and relevance engineers: objectives, experiments, training data, audiences."""
    APP = "app"
    """The app's backend: recipients, preferences, engagements, the inbox."""


_SUBJECT_ALTERNATIVE_NAMES = "x509_subject_alternative_name"
_COMMON_NAME = "x509_common_name"
_ROLES = {role.value: role for role in Role}


def identities(auth_context: Mapping[str, Iterable[bytes]]) -> list[str]:
    """Names in the caller's verified certificate: its alternative names, or the common name when
    it has none."""
    names = auth_context.get(_SUBJECT_ALTERNATIVE_NAMES) or auth_context.get(_COMMON_NAME) or ()
    return [name.decode("utf-8", "replace") for name in names]


def role_of(identity: str, caller_roles: Mapping[str, str]) -> Role | None:
    """The role of one identity; None when it has none.

    First the deployment's own table, then the naming rule:
    matches `spiffe://any.domain/heliograph/pacer` (the path ends so), `pacer.heliograph` and
    `pacer.heliograph.svc.cluster.local`; does not match `pacer`, `pacer.example.com`.
    """
    named = caller_roles.get(identity)
    if named is None and identity.startswith("spiffe://"):
        path = identity.removeprefix("spiffe://").split("/")
        named = path[-1] if len(path) > 2 and path[-2] == "heliograph" else None
    elif named is None:
        labels = identity.split(".")
        named = labels[0] if len(labels) > 1 and labels[1] == "heliograph" else None
    return _ROLES.get(named or "")


class Authoriser:
    """Checks each call of one server with mutual TLS against the table of methods."""

    def __init__(
        self, methods: Mapping[str, frozenset[Role]], caller_roles: Mapping[str, str]
    ) -> None:
        """`methods`: roles by full method name `/package.Service/Method`. Raises
        ConfigurationError when `caller_roles` (roles by identity) names a role there is not."""
        unknown = sorted(set(caller_roles.values()) - set(_ROLES))
        if unknown:
            raise ConfigurationError(f"HELIOGRAPH_CALLER_ROLES names unknown roles {unknown}")
        self._methods = methods
        self._caller_roles = caller_roles

    def check(self, method: str, auth_context: Mapping[str, Iterable[bytes]]) -> None:
        """Raise PermissionDenied unless one of the caller's roles may call `method`."""
        allowed = self._methods.get(method, frozenset())
        names = identities(auth_context)
        roles = {role for name in names if (role := role_of(name, self._caller_roles))}
        if roles & allowed:
            return
        reason = "ROLE_NOT_ALLOWED" if roles else "UNKNOWN_IDENTITY"
        who = f"role {', '.join(sorted(roles))}" if roles else "an identity without a role"
        raise PermissionDenied(
            f"{who} may not call {method}",
            reason=reason,
            metadata={"identity": ", ".join(names)[:200], "allowed": ", ".join(sorted(allowed))},
        )
