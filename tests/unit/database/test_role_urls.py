"""URLs and passwords of the services' roles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import make_url

from services.runtime.roles import role_password, service_url

KEY = SecretStr("one secret key of a deployment")


def test_service_url_changes_the_role_only() -> None:
    url = make_url(
        service_url("postgresql://admin:pw@db:6432/helio?sslmode=require", "policy", KEY)
    )
    assert (url.username, url.host, url.port) == ("heliograph_policy", "db", 6432)
    assert (url.database, url.query) == ("helio", {"sslmode": "require"})
    assert url.password == role_password("policy", KEY)


@given(st.text(min_size=1), st.text(min_size=1))
def test_passwords_differ_by_service_and_key(first: str, second: str) -> None:
    one, other = SecretStr(first), SecretStr(second)
    assert (role_password("policy", one) == role_password("policy", other)) == (first == second)
    assert role_password("policy", one) != role_password("ranker", one)


@pytest.mark.parametrize("name", ["", "Policy", "policy;drop", "1x", "a b"])
def test_what_is_no_service_name_never_reaches_a_statement(name: str) -> None:
    with pytest.raises(ValueError, match="no service name"):
        service_url("postgresql://db/helio", name, KEY)
