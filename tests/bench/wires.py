"""Cheap clients, so that what is measured is the other end: HTTP/1.1 and gRPC on bare sockets, a call at a time."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WIDE = (1 << 31) - 1 - 65535
WAIT_S = 10.0


@dataclass(slots=True)
class Rest:
    """GET over one kept connection."""

    port: int
    path: str
    token: str
    line: socket.socket = field(init=False)
    request: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.line = socket.create_connection(("127.0.0.1", self.port), WAIT_S)
        self.line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines = (f"GET {self.path} HTTP/1.1", f"host: localhost:{self.port}", f"authorization: Bearer {self.token}")
        self.request = "\r\n".join((*lines, "", "")).encode()

    def call(self) -> bytes:
        """The body of a 200 with a content-length."""
        self.line.sendall(self.request)
        got = self.line.recv(65536)
        while b"\r\n\r\n" not in got:
            got += more(self.line)
        head, _, body = got.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), got
        size = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        while len(body) < size:
            body += more(self.line)
        return body

    def close(self) -> None:
        self.line.close()


@dataclass(slots=True)
class Web:
    """Unary gRPC-Web over one kept connection."""

    port: int
    method: str
    token: str
    line: socket.socket = field(init=False)
    headers: str = field(init=False)

    def __post_init__(self) -> None:
        self.line = socket.create_connection(("127.0.0.1", self.port), WAIT_S)
        self.line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines = (f"POST {self.method} HTTP/1.1", f"host: localhost:{self.port}", f"authorization: Bearer {self.token}")
        self.headers = "\r\n".join((*lines, "content-type: application/grpc-web+proto", "x-grpc-web: 1", ""))

    def call(self, message: bytes) -> bytes:
        """The bytes of the one message that came back, in chunks of their own."""
        body = struct.pack(">BI", 0, len(message)) + message
        self.line.sendall(f"{self.headers}content-length: {len(body)}\r\n\r\n".encode() + body)
        got = self.line.recv(65536)
        while not got.endswith(b"\r\n0\r\n\r\n"):
            got += more(self.line)
        assert got.startswith(b"HTTP/1.1 200") and b"grpc-status:0" in got, got
        chunk = got.partition(b"\r\n\r\n")[2].partition(b"\r\n")[2]
        return chunk[5 : 5 + int.from_bytes(chunk[1:5])]

    def close(self) -> None:
        self.line.close()


@dataclass(slots=True)
class Rpc:
    """Unary gRPC over one kept mTLS connection, with the headers written out anew each time, as plain as they come."""

    port: int
    room: str
    method: str
    token: str
    sds_dir: Path
    """Where the edge finds its own identity."""
    line: ssl.SSLSocket = field(init=False)
    headers: bytes = field(init=False)
    stream: int = field(default=1, init=False)
    rest: bytes = field(default=b"", init=False)

    def __post_init__(self) -> None:
        name = f"{self.room}.soma.local"
        plain = socket.create_connection(("127.0.0.1", self.port), WAIT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.line = as_edge(self.sds_dir).wrap_socket(plain, server_hostname=name)
        pairs = (
            (":method", "POST"), (":scheme", "https"), (":path", self.method), (":authority", name), ("te", "trailers"),
            ("content-type", "application/grpc"), ("authorization", f"Bearer {self.token}"),
        )  # fmt: skip
        self.headers = b"".join(literal(name.encode(), value.encode()) for name, value in pairs)
        self.line.sendall(PREFACE + frame(SETTINGS, 0, 0, b"") + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WIDE)))

    def call(self, message: bytes) -> bytes:
        """The bytes of the one message that came back."""
        body = struct.pack(">BI", 0, len(message)) + message
        self.line.sendall(
            frame(HEADERS, END_HEADERS, self.stream, self.headers) + frame(DATA, END_STREAM, self.stream, body)
        )
        answer = b""
        while True:
            kind, flags, payload = self._frame()
            if kind == DATA:
                answer += payload
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                break
            if kind in (SETTINGS, PING) and not flags & ACK:
                self.line.sendall(frame(kind, ACK, 0, payload if kind == PING else b""))
            assert kind != GOAWAY, "the room ended the connection"
        self.stream += 2
        assert answer, "a status without a message"
        return answer[5:]

    def _frame(self) -> tuple[int, int, bytes]:
        while len(self.rest) < 9 or len(self.rest) < 9 + int.from_bytes(self.rest[:3]):
            self.rest += more(self.line)
        size, kind, flags = int.from_bytes(self.rest[:3]), self.rest[3], self.rest[4]
        payload, self.rest = self.rest[9 : 9 + size], self.rest[9 + size :]
        return kind, flags, payload

    def close(self) -> None:
        self.line.close()


def more(line: socket.socket) -> bytes:
    got = line.recv(65536)
    assert got, "the other end hung up"
    return got


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header that no table remembers (RFC 7541, 6.2.2)."""
    return b"\0" + counted(name) + counted(value)


def counted(text: bytes) -> bytes:
    """A string with its length as an integer of seven bits and more (RFC 7541, 5.1)."""
    left = len(text)
    if left < 127:
        return bytes((left,)) + text
    length, left = bytearray((127,)), left - 127
    while left >= 128:
        length.append(left % 128 + 128)
        left //= 128
    return bytes((*length, left)) + text


def as_edge(sds_dir: Path) -> ssl.SSLContext:
    """TLS with the identity that the supervisor wrote down for Envoy."""
    context = ssl.create_default_context(cadata=secret(sds_dir, "bundle")["trusted_ca"]["inline_string"])
    context.set_alpn_protocols(["h2"])
    shown = secret(sds_dir, "svid")
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as pem:
        pem.write(shown["private_key"]["inline_string"] + shown["certificate_chain"]["inline_string"])
        pem.flush()
        context.load_cert_chain(pem.name)
    return context


def secret(sds_dir: Path, name: str) -> dict[str, dict[str, str]]:
    resource = json.loads((sds_dir / f"{name}.yaml").read_text())["resources"][0]
    found: dict[str, dict[str, str]] = resource["validation_context" if name == "bundle" else "tls_certificate"]
    return found
