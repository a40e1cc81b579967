"""An exchange that no order of ours can reach: a name that nobody knows, a port, a certificate nobody trusts."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec.structs import replace

from apply.acting import orders
from apply.acting.orders import Desk
from quantum.exchange import connect
from quantum.exchange.binance import BinanceSender


@contextmanager
def sending_to(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Apply's orders go there, by the real sender; what it reads still comes from the paper exchange."""
    open_desk, resolve = orders.open_desk, socket.getaddrinfo

    def elsewhere() -> Desk:
        desk = open_desk()
        key, secret = connect.credentials("TRADE")
        sender = BinanceSender(
            api_key=key,
            api_secret=secret,
            base_url=url,
            timeout_s=connect.HTTP_TIMEOUT_S,
            clock=desk.reader.clock,
            back_off=desk.reader.back_off,
        )
        return replace(desk, sender=sender)

    def unknown_name(host: Any, *args: Any, **more: Any) -> Any:
        if str(host).endswith(".invalid"):  # no name server is asked: it may be slow to say no
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *args, **more)

    with monkeypatch.context() as patched:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            patched.delenv(name, raising=False)
        patched.setattr(socket, "getaddrinfo", unknown_name)
        patched.setattr(orders, "open_desk", elsewhere)
        yield


@contextmanager
def untrusted_server(folder: Path) -> Iterator[tuple[int, threading.Event]]:
    """A TLS server on loopback that signed its own certificate. The event: somebody began to speak TLS with it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own_certificate(folder))
    greeted = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    line, _ = server.accept()
                except OSError:
                    return
                with line:
                    line.settimeout(2)
                    greeted.set()
                    try:
                        context.wrap_socket(line, server_side=True).close()
                    except OSError:
                        continue

        threading.Thread(target=answer, daemon=True).start()
        yield server.getsockname()[1], greeted
        server.shutdown(socket.SHUT_RDWR)


def own_certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "own.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path
