"""Calls to peers of Rank, made before they are timed: HTTP, and the v2 inference protocol by gRPC.

Client and server share the cores, so a client must cost a peer no more than gRPC's costs Rank: an
HTTP call is one write to a socket, and reads until the answer's end.
"""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Protocol, TypeAlias

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2
from tritonclient.utils import np_to_triton_dtype

from bench.peers.wire import Arrays, Input, pack

INFER = "/inference.GRPCInferenceService/ModelInfer"
LOAD = "/inference.GRPCInferenceService/RepositoryModelLoad"
TIMEOUT_S = 60.0
_HEADERS_END = b"\r\n\r\n"
_LENGTH = b"content-length:"

Call: TypeAlias = Callable[[bytes], bytes]
"""From a request to its answer."""
FAILURES = (OSError, grpc.RpcError, ValueError)
"""What a call, and reading its answer, may raise."""


class Client(Protocol):
    """How one peer is called."""

    def request(self, arrays: Arrays) -> bytes:
        """The bytes of a call with these inputs of the model."""

    def connected(self) -> AbstractContextManager[Call]:
        """For one thread."""

    def scores(self, answer: bytes, heads: int) -> NDArray[np.float32]:
        """[N, heads]."""


class HttpClient:
    """POST /score with the bytes of `wire.pack`."""

    def __init__(self, address: str, inputs: Sequence[Input]) -> None:
        self._address = address
        self._inputs = inputs

    def request(self, arrays: Arrays) -> bytes:
        """Headers and body."""
        body = pack(self._inputs, arrays)
        head = (
            f"POST /score HTTP/1.1\r\nHost: {self._address}\r\n"
            f"Content-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    @contextmanager
    def connected(self) -> Iterator[Call]:
        """A connection that stays open. Calls raise OSError, and ValueError for a bad answer."""
        host, _, port = self._address.rpartition(":")
        with closing(socket.create_connection((host, int(port)), TIMEOUT_S)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def call(request: bytes) -> bytes:
                connection.sendall(request)
                return _answer(connection)

            yield call

    def scores(self, answer: bytes, heads: int) -> NDArray[np.float32]:
        """The body is the scores' bytes."""
        return np.frombuffer(answer, np.float32).reshape(-1, heads)


def _answer(connection: socket.socket) -> bytes:
    """The body of the next answer. Raises OSError, and ValueError when it isn't one."""
    received = b""
    while (ends := received.find(_HEADERS_END)) < 0:
        received += _received(connection)
    head = received[:ends].lower()
    if not head.startswith(b"http/1.1 200") or (place := head.find(_LENGTH)) < 0:
        raise ValueError(received[:500].decode(errors="replace"))
    length = int(head[place + len(_LENGTH) :].split(b"\r\n", 1)[0])
    body = received[ends + len(_HEADERS_END) :]
    while len(body) < length:
        body += _received(connection)
    return body


def _received(connection: socket.socket) -> bytes:
    if not (data := connection.recv(1 << 16)):
        raise ConnectionError("the peer closed the connection")
    return data


class _InferClient:
    """ModelInfer on one channel, as Rank is called."""

    def __init__(self, address: str, inputs: Sequence[Input]) -> None:
        self._inputs = inputs
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(address, options)

    @contextmanager
    def connected(self) -> Iterator[Call]:
        """Calls raise grpc.RpcError."""
        infer: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(INFER)
        yield lambda request: infer(request, timeout=TIMEOUT_S)


class MlserverClient(_InferClient):
    """A call is one element of bytes."""

    def request(self, arrays: Arrays) -> bytes:
        """The bytes of `wire.pack`."""
        made = service_pb2.ModelInferRequest(model_name="ranker")
        tensor = made.inputs.add(name="call", datatype="BYTES", shape=[1, 1])
        tensor.contents.bytes_contents.append(pack(self._inputs, arrays))
        return bytes(made.SerializeToString())

    def scores(self, answer: bytes, heads: int) -> NDArray[np.float32]:
        """The element is the scores' bytes."""
        (body,) = (
            service_pb2.ModelInferResponse.FromString(answer).outputs[0].contents.bytes_contents
        )
        return np.frombuffer(body, np.float32).reshape(-1, heads)


class TritonClient(_InferClient):
    """A tensor for each input."""

    def __init__(self, address: str, inputs: Sequence[Input], model: str) -> None:
        super().__init__(address, inputs)
        self._model = model
        self._is_loaded = False

    @contextmanager
    def connected(self) -> Iterator[Call]:
        """Has Triton load the model the first time."""
        if not self._is_loaded:
            request = service_pb2.RepositoryModelLoadRequest(model_name=self._model)
            load: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(LOAD)
            load(request.SerializeToString(), timeout=2 * TIMEOUT_S, wait_for_ready=True)
            self._is_loaded = True
        with super().connected() as call:
            yield call

    def request(self, arrays: Arrays) -> bytes:
        """Raw contents."""
        made = service_pb2.ModelInferRequest(model_name=self._model)
        made.outputs.add(name="scores")
        for each in self._inputs:
            array = np.ascontiguousarray(arrays[each.name])
            datatype = np_to_triton_dtype(array.dtype)
            made.inputs.add(name=each.name, datatype=datatype, shape=list(array.shape))
            made.raw_input_contents.append(array.tobytes())
        return bytes(made.SerializeToString())

    def scores(self, answer: bytes, heads: int) -> NDArray[np.float32]:
        """The only output."""
        (body,) = service_pb2.ModelInferResponse.FromString(answer).raw_output_contents
        return np.frombuffer(body, np.float32).reshape(-1, heads)
