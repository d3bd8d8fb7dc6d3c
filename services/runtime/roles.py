"""Database roles: each service logs in with its own, whose password follows from the secret key."""

import base64
import re

from pydantic import SecretStr
from sqlalchemy import make_url

from services.runtime.secrets import derive

_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}").fullmatch


def role_name(service: str) -> str:
    """Database role of a service."""
    if not _NAME(service):
        raise ValueError(f"{service!r} is no service name")
    return f"heliograph_{service}"


def role_password(service: str, secret_key: SecretStr) -> str:
    """Password of a service's role, derived from the deployment's secret key."""
    key = derive(secret_key, f"database-role:{service}")
    return base64.urlsafe_b64encode(key).decode().rstrip("=")


def service_url(database_url: str, service: str, secret_key: SecretStr) -> str:
    """URL of the same database for a service's own role."""
    url = make_url(database_url).set(
        username=role_name(service), password=role_password(service, secret_key)
    )
    return url.render_as_string(hide_password=False)
