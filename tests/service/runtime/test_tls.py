"""TLS and mutual TLS, with certificates made here: who gets in, and what they may call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.x509 import DNSName, GeneralName, UniformResourceIdentifier
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from heliograph.policy.v1alpha1 import control_pb2, policy_pb2_grpc

from services.runtime.channels import Peers
from services.runtime.settings import ConfigurationError, Endpoint, RuntimeSettings
from services.runtime.system import System
from tests.service.runtime.certificates import LOOPBACK, Authority
from tests.service.runtime.conftest import StartFrame
from tests.service.runtime.handlers import PolicyHandler, bind_policy, snooze
from tests.service.runtime.test_calls import detail

APP = UniformResourceIdentifier("spiffe://test.example/heliograph/app")
PACER = DNSName("pacer.heliograph.svc.cluster.local")
STRANGER = DNSName("app.example.com")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def secured(start_frame: StartFrame, authority: Authority) -> System:
    """Policy with mutual TLS."""
    own = authority.issue("policy", DNSName("policy.heliograph"), LOOPBACK)
    roles = {"spiffe://corp/shop": "app"}
    binds = {"policy": bind_policy(PolicyHandler())}
    return await start_frame(binds, caller_roles=roles, **own)


def caller(system: System, certificate: dict[str, Any]) -> Peers:
    """Channels that show `certificate`."""
    target = Endpoint(address=system.address("policy"))
    return Peers(RuntimeSettings(policy=target, retry_attempts=1, **certificate))


@pytest.mark.parametrize(
    "name", [APP, UniformResourceIdentifier("spiffe://corp/shop"), DNSName("app.heliograph")]
)
async def test_the_right_identity_passes(
    secured: System, authority: Authority, name: GeneralName
) -> None:
    peers = caller(secured, authority.issue("caller", name))
    stub = policy_pb2_grpc.PolicyServiceStub(peers.channel("policy"))
    await stub.Snooze(snooze("u1"))
    await peers.close()


async def test_the_common_name_counts_without_other_names(
    secured: System, authority: Authority
) -> None:
    peers = caller(secured, authority.issue("caller", common_name="app.heliograph"))
    stub = policy_pb2_grpc.PolicyServiceStub(peers.channel("policy"))
    await stub.Snooze(snooze("u1"))
    await peers.close()


@pytest.mark.parametrize(
    ("name", "reason"), [(PACER, "ROLE_NOT_ALLOWED"), (STRANGER, "UNKNOWN_IDENTITY")]
)
async def test_the_wrong_identity_is_refused_with_a_reason(
    secured: System, authority: Authority, name: GeneralName, reason: str
) -> None:
    peers = caller(secured, authority.issue("caller", name, common_name="app.heliograph"))
    stub = policy_pb2_grpc.PolicyServiceStub(peers.channel("policy"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Snooze(snooze("u1"))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert detail(refused.value, error_details_pb2.ErrorInfo).reason == reason
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        _ = [one async for one in stub.WatchVolume(control_pb2.WatchVolumeRequest(once=True))]
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    await peers.close()


async def test_a_method_that_is_not_in_the_table_is_denied(
    secured: System, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.runtime import access_table

    method = "/heliograph.policy.v1alpha1.PolicyService/Snooze"
    monkeypatch.delitem(access_table.METHODS, method)
    peers = caller(secured, authority.issue("caller", APP))
    stub = policy_pb2_grpc.PolicyServiceStub(peers.channel("policy"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Snooze(snooze("u1"))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    await peers.close()


async def test_without_a_client_certificate_there_is_no_connection(
    secured: System, authority: Authority
) -> None:
    credentials = grpc.ssl_channel_credentials(authority.file.read_bytes())
    async with grpc.aio.secure_channel(secured.address("policy"), credentials) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=10
            )
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_another_authoritys_certificate_is_refused(secured: System, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other").issue("caller", APP)
    trusted = {**other, "tls_ca_file": tmp_path / "authority.pem"}
    peers = caller(secured, trusted)
    stub = policy_pb2_grpc.PolicyServiceStub(peers.channel("policy"))
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.Snooze(snooze("u1"), timeout=10)
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    await peers.close()


async def test_tls_without_client_certificates_serves_anyone_who_trusts_it(
    start_frame: StartFrame, authority: Authority
) -> None:
    own = authority.issue("policy", LOOPBACK)
    system = await start_frame(
        {"policy": bind_policy(PolicyHandler())}, tls_require_client_certificate=False, **own
    )
    credentials = grpc.ssl_channel_credentials(authority.file.read_bytes())
    async with grpc.aio.secure_channel(system.address("policy"), credentials) as channel:
        await policy_pb2_grpc.PolicyServiceStub(channel).Snooze(snooze("u1"))


async def test_a_file_that_is_not_there_is_named(start_frame: StartFrame, tmp_path: Path) -> None:
    own = {**Authority(tmp_path).issue("policy", LOOPBACK), "tls_key_file": tmp_path / "gone.key"}
    with pytest.raises(ConfigurationError, match=r"HELIOGRAPH_TLS_KEY_FILE: .*gone\.key"):
        await start_frame({"policy": bind_policy(PolicyHandler())}, **own)


async def test_plain_text_beyond_loopback_is_refused(start_frame: StartFrame) -> None:
    with pytest.raises(ConfigurationError, match="HELIOGRAPH_ALLOW_PLAINTEXT"):
        await start_frame(
            {"policy": bind_policy(PolicyHandler())}, policy=Endpoint(listen="0.0.0.0:0")
        )
