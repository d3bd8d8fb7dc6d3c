"""Settings: variables, cross-field checks that name the variable, and rendering without secrets."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from services.runtime.configuration import HIDDEN, explain, settings_in_force
from services.runtime.settings import (
    ConfigurationError,
    Endpoint,
    RuntimeSettings,
    ServiceSettings,
    is_loopback,
)


class ExampleSettings(ServiceSettings):
    """Settings of one service, as services write them."""

    model_config = SettingsConfigDict(env_prefix="HELIOGRAPH_POLICY_")

    cap_per_day: int = Field(default=5, ge=0)
    """Notifications a user may get in a day."""
    token: SecretStr = SecretStr("")
    """A secret of its own."""
    retention: timedelta = Field(default=timedelta(days=90), ge=timedelta(seconds=1))
    """How long something is kept."""


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("HELIOGRAPH_"):
            monkeypatch.delenv(name)


def test_defaults_are_loopback_and_known_ports() -> None:
    settings = RuntimeSettings()
    assert settings.candidate.target == "127.0.0.1:50051"
    assert settings.pacer.target == "127.0.0.1:50055"
    assert [settings.endpoint(name).metrics_port for name in ("candidate", "pacer")] == [9101, 9105]


def test_one_variable_changes_one_part_of_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIOGRAPH_POLICY_ADDRESS", "policy.example:443")
    monkeypatch.setenv("HELIOGRAPH_POLICY_CAP_PER_DAY", "9")
    settings = RuntimeSettings()
    assert settings.policy == Endpoint(
        listen="127.0.0.1:50053", address="policy.example:443", metrics_port=9103
    )
    assert ExampleSettings().cap_per_day == 9


def test_simulation_is_refused_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIOGRAPH_ENVIRONMENT", "production")
    monkeypatch.setenv("HELIOGRAPH_SECRET_KEY", "x" * 32)
    assert RuntimeSettings().environment == "production"
    monkeypatch.setenv("HELIOGRAPH_SIMULATION", "true")
    with pytest.raises(ValidationError) as refused:
        RuntimeSettings()
    assert "unset HELIOGRAPH_SIMULATION" in explain(refused.value)[0]


def test_production_needs_a_secret_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIOGRAPH_ENVIRONMENT", "production")
    with pytest.raises(ValidationError, match="HELIOGRAPH_SECRET_KEY"):
        RuntimeSettings()


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"HELIOGRAPH_RETRY_ATTEMPTS": "0"}, "HELIOGRAPH_RETRY_ATTEMPTS: "),
        ({"HELIOGRAPH_POLICY_METRICS_PORT": "no"}, "HELIOGRAPH_POLICY_METRICS_PORT: "),
        ({"HELIOGRAPH_TLS_KEY_FILE": "key.pem"}, "set HELIOGRAPH_TLS_CERTIFICATE_FILE and "),
    ],
)
def test_a_wrong_setting_is_explained_by_its_variable(
    variables: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as refused:
        RuntimeSettings()
    (explained,) = explain(refused.value)
    assert explained.startswith(line)


def test_a_services_own_wrong_setting_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIOGRAPH_POLICY_CAP_PER_DAY", "-1")
    with pytest.raises(ValidationError) as refused:
        ExampleSettings()
    assert explain(refused.value)[0].startswith("HELIOGRAPH_POLICY_CAP_PER_DAY: ")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("2", timedelta(seconds=2)),
        ("120", timedelta(minutes=2)),
        ("2.5", timedelta(seconds=2.5)),
        (" 7776000 ", timedelta(days=90)),
        ("PT2S", timedelta(seconds=2)),
        ("P1D", timedelta(days=1)),
        ("0:00:02", timedelta(seconds=2)),
        ("90 days, 0:00:00", timedelta(days=90)),
    ],
)
def test_durations_are_in_seconds_or_iso_8601(
    monkeypatch: pytest.MonkeyPatch, given: str, meant: timedelta
) -> None:
    monkeypatch.setenv("HELIOGRAPH_POLICY_RETENTION", given)
    assert ExampleSettings().retention == meant


@pytest.mark.parametrize("given", ["soon", "2 weeks", "9" * 30, "nan", "1e3"])
def test_what_is_no_duration_is_explained(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("HELIOGRAPH_POLICY_RETENTION", given)
    with pytest.raises(ValidationError) as caught:
        ExampleSettings()
    (line,) = explain(caught.value)
    assert line.startswith(f"HELIOGRAPH_POLICY_RETENTION: {given!r} is no duration: give seconds")


def test_a_number_of_seconds_is_held_to_the_settings_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HELIOGRAPH_POLICY_RETENTION", "0.5")
    with pytest.raises(ValidationError, match="greater than or equal"):
        ExampleSettings()


def test_rendering_hides_secrets_and_names_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "correct-horse-battery-staple-00000"
    monkeypatch.setenv("HELIOGRAPH_SECRET_KEY", secret)
    monkeypatch.setenv("HELIOGRAPH_DATABASE_URL", f"postgresql://admin:{secret}@db/heliograph")
    monkeypatch.setenv("HELIOGRAPH_POLICY_DATABASE_URL", f"postgresql://own:{secret}@db/x")
    monkeypatch.setenv("HELIOGRAPH_POLICY_TOKEN", secret)
    monkeypatch.setenv("HELIOGRAPH_LOG_FORMAT", "json")
    lines = settings_in_force(RuntimeSettings(), ExampleSettings())
    shown = {line.variable: line for line in lines}
    assert not [line for line in lines if secret in str(line)]
    for variable in ("SECRET_KEY", "DATABASE_URL", "POLICY_DATABASE_URL", "POLICY_TOKEN"):
        assert shown[f"HELIOGRAPH_{variable}"].value == HIDDEN
    assert shown["HELIOGRAPH_LOG_FORMAT"].source == "environment"
    assert shown["HELIOGRAPH_RANKER_LISTEN"].value == "127.0.0.1:50052"
    assert shown["HELIOGRAPH_RANKER_LISTEN"].source == "default"
    assert shown["HELIOGRAPH_CANDIDATE_DATABASE_URL"].value == ""


def test_every_setting_has_a_default_and_a_description() -> None:
    assert not [
        line.variable for line in settings_in_force(RuntimeSettings()) if not line.description
    ]


@pytest.mark.parametrize(
    ("listen", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/run/policy.sock", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("policy.example:1", False),
    ],
)
def test_plain_text_is_for_loopback(listen: str, loopback: bool) -> None:
    assert is_loopback(listen) is loopback
    settings = RuntimeSettings(policy=Endpoint(listen=listen))
    if loopback:
        settings.check_listen("policy")
    else:
        with pytest.raises(ConfigurationError, match="HELIOGRAPH_POLICY_LISTEN"):
            settings.check_listen("policy")
        settings.model_copy(update={"allow_plaintext": True}).check_listen("policy")
