"""gRPC credentials from the certificate files in the settings."""

from pathlib import Path

import grpc

from services.runtime.settings import ConfigurationError, RuntimeSettings


def server_credentials(settings: RuntimeSettings) -> grpc.ServerCredentials | None:
    """What a service serves with; None for plain text. Raises ConfigurationError."""
    files = _files(settings)
    if files is None:
        return None
    certificate, key, authority = files
    return grpc.ssl_server_credentials(
        [(key, certificate)],
        root_certificates=authority,
        require_client_auth=settings.tls_require_client_certificate,
    )


def channel_credentials(settings: RuntimeSettings) -> grpc.ChannelCredentials | None:
    """What a service calls its peers with; None for plain text. Raises ConfigurationError."""
    files = _files(settings)
    if files is None:
        return None
    certificate, key, authority = files
    return grpc.ssl_channel_credentials(
        root_certificates=authority, private_key=key, certificate_chain=certificate
    )


def _files(settings: RuntimeSettings) -> tuple[bytes, bytes, bytes] | None:
    if settings.tls_certificate_file is None:
        return None
    return (
        _read(settings.tls_certificate_file, "HELIOGRAPH_TLS_CERTIFICATE_FILE"),
        _read(settings.tls_key_file, "HELIOGRAPH_TLS_KEY_FILE"),
        _read(settings.tls_ca_file, "HELIOGRAPH_TLS_CA_FILE"),
    )


def _read(path: Path | None, variable: str) -> bytes:
    if path is None:
        raise ConfigurationError(f"set {variable}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{variable}: cannot read {path}: {error.strerror}") from error
