"""Other sockets than a TCP address: a Unix socket, sockets that a service manager holds, and TLS."""

import secrets
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.client import HTTPSConnection
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.utils import timezone

from skyauth.certificates import CertificateFiles
from tests.examples import examples
from tests.http_client import HOST, ask, bearer
from tests.load import UnixConnection, get, load, on
from tests.servers import ROOT, Program, SkyAuth, directory, free_port, skyauth_server, start, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("listeners"), pytest.mark.sqlite]

TARGET = (("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", HOST), ("X-Forwarded-Uri", "/"))
RESTARTS = examples(2, long=6)


@pytest.fixture(scope="module")
def server() -> Iterator[SkyAuth]:
    """The data of a server, which each test starts in its own way."""
    with skyauth_server() as server:
        server.stop()
        yield server


@pytest.fixture(scope="module")
def token(server: SkyAuth) -> tuple[str, bytes]:
    server.console("create_account", name="pipeline", role="viewer")
    return bearer(server.console("issue", account="pipeline"))


@contextmanager
def serving(server: SkyAuth, *options: str, **settings: str) -> Iterator[Program]:
    """Start `serve` with these options and settings."""
    command = [sys.executable, "manage.py", "serve", "--drain", "1", *options]
    program = start(command, server.data / f"{secrets.token_hex(4)}.log", {**server.environment, **settings})
    try:
        yield program
    finally:
        program.end()


def status(connection: UnixConnection | HTTPSConnection, *headers: tuple[str, str | bytes]) -> str:
    """Ask the verify endpoint, and return the status."""
    try:
        connection.request("GET", "/authz/verify", headers=dict([*TARGET, *headers]))  # type: ignore[arg-type]
        return str(connection.getresponse().status)
    finally:
        connection.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_unix_socket_has_its_mode_and_goes_with_the_server(server: SkyAuth, workers: str) -> None:
    with directory() as home:
        path = home / "skyauth.sock"
        with serving(server, "--unix", str(path), "--unix-mode", "620", "--workers", workers) as program:
            wait_until(lambda: "Application startup complete" in program.output, "it serves")
            assert stat.S_IMODE(path.stat().st_mode) == 0o620
            second = start([sys.executable, "manage.py", "serve", "--unix", str(path)], home / "second.log", server.environment)
            assert second.process.wait(60) == 1
            assert "address already in use" in second.output
        assert program.process.returncode == 0
        assert not path.exists()


def test_a_unix_socket_is_trusted_only_if_the_settings_say_so(server: SkyAuth, token: tuple[str, bytes]) -> None:
    with directory() as home:
        path = home / "skyauth.sock"
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(path))
        stale.close()
        for trusted, expected in ((HOST, "403"), ("unix", "200")):
            with serving(server, "--unix", str(path), TRUSTED_PROXIES=trusted) as program:
                wait_until(lambda program=program: "Application startup complete" in program.output, "it serves")
                assert status(UnixConnection(str(path)), token) == expected


def test_another_file_is_not_replaced_by_a_socket(server: SkyAuth) -> None:
    with directory() as home:
        path = home / "precious"
        path.write_text("content")
        with serving(server, "--unix", str(path)) as program:
            assert program.process.wait(60) == 1
        assert "is not a socket" in program.output
        assert path.read_text() == "content"


PASSES_ON = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.executable, [sys.executable, "manage.py", "serve", *sys.argv[2:]])
"""


def child(server: SkyAuth, listener: socket.socket, *options: str, **settings: str) -> "subprocess.Popen[bytes]":
    """Start `serve` as systemd does: the listening socket is descriptor 3."""
    with (server.data / "inherited.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", PASSES_ON, str(listener.fileno()), *options],
            cwd=ROOT,
            env={**server.environment, **settings},
            stdout=log,
            stderr=log,
            pass_fds=[listener.fileno()],
        )


@pytest.mark.long
@pytest.mark.parametrize("kind", ["kept", "new", "unix"])
def test_a_restart_behind_an_inherited_socket_loses_no_request(server: SkyAuth, token: tuple[str, bytes], kind: str) -> None:
    exchange = get("/authz/verify", *TARGET, token)
    with directory() as home, socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET) as listener:
        listener.bind(str(home / "skyauth.sock") if kind == "unix" else (HOST, 0))
        listener.listen(512)
        trusted = "unix" if kind == "unix" else HOST
        process = child(server, listener, "--drain", "2", TRUSTED_PROXIES=trusted)
        clients = (
            on(lambda: UnixConnection(str(home / "skyauth.sock")), exchange, keep=False)
            if kind == "unix"
            else load(listener.getsockname()[1], exchange, keep=kind == "kept")
        )
        try:
            with clients as running:
                for _ in range(RESTARTS):
                    seen = running.seen["200"]
                    wait_until(lambda seen=seen: running.seen["200"] > seen + 50, "requests pass")
                    process.send_signal(signal.SIGTERM)
                    assert process.wait(30) == 0
                    process = child(server, listener, "--drain", "2", TRUSTED_PROXIES=trusted)
                seen = running.seen["200"]
                wait_until(lambda: running.seen["200"] > seen + 50, "requests pass")
        finally:
            process.terminate()
            process.wait(30)
        assert not running.failed
        assert (home / "skyauth.sock").exists() or kind != "unix"  # it belongs to the service manager


def test_readyz_does_not_change_while_another_process_will_take_over(server: SkyAuth) -> None:
    with socket.socket() as listener, socket.socket() as kept:
        listener.bind((HOST, 0))
        listener.listen()
        port = listener.getsockname()[1]
        process = child(server, listener, "--drain", "20")
        assert ask(port, "/readyz").status == 200
        kept.connect((HOST, port))
        kept.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.recv(4096).startswith(b"HTTP/1.1 200")
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert ask(port, "/readyz").status == 200
        kept.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"connection: close" in kept.recv(4096)
        assert process.wait(10) == 0  # before the 20 seconds are over, because no connection is left


def test_a_passed_socket_and_an_address_contradict(server: SkyAuth) -> None:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        assert child(server, listener, "--port", "8000").wait(60) == 1
    assert "The service manager passes a socket. Remove --host, --port and --unix." in (server.data / "inherited.log").read_text(
        "utf-8"
    )


# A ClientHello of TLS 1.1 that offers TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, with the curve P-256.
OLD_HELLO = bytes.fromhex(f"16030100370100003303 02{'00' * 32}000002c00901000008000a000400020017")


def certificate(home: Path, name: str) -> None:
    """Write a certificate for 127.0.0.1 and its key; the certificate is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = timezone.now()
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    (home / "tls.key").unlink(missing_ok=True)
    (home / "tls.key").touch(0o600)
    (home / "tls.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (home / "tls.crt").write_bytes(made.public_bytes(Encoding.PEM))


def shown(port: int) -> str:
    """Return the common name of the certificate that the server shows now."""
    made = x509.load_pem_x509_certificate(ssl.get_server_certificate((HOST, port), timeout=10).encode())
    return str(made.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)


def insecure() -> ssl.SSLContext:
    """Return the context of a client that accepts every certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_tls_is_served_and_a_renewed_certificate_is_used_without_a_restart(server: SkyAuth, token: tuple[str, bytes]) -> None:
    with directory() as home:
        certificate(home, "first")
        port = free_port()
        options = ["--port", str(port), "--certificate", str(home / "tls.crt"), "--key", str(home / "tls.key")]
        with serving(server, *options) as program:
            program.wait_for(port)
            assert status(HTTPSConnection(HOST, port, context=insecure(), timeout=10), token) == "200"
            assert shown(port) == "first"
            with socket.create_connection((HOST, port), timeout=10) as plain:
                plain.sendall(OLD_HELLO)
                assert plain.recv(7)[:1] != b"\x16"  # no ServerHello
            context = CertificateFiles(home / "tls.crt", home / "tls.key").context()
            assert context.minimum_version is ssl.TLSVersion.TLSv1_2
            certificate(home, "second")
            program.process.send_signal(signal.SIGHUP)
            wait_until(lambda: shown(port) == "second", "the renewed certificate is used", 10)
            (home / "tls.key").write_text("nonsense")
            program.process.send_signal(signal.SIGHUP)
            wait_until(lambda: "The new TLS certificate is not used." in program.output, "the reason is logged", 10)
            assert shown(port) == "second"
            certificate(home, "third")
            wait_until(lambda: shown(port) == "third", "the certificate is also renewed without a signal", 15)


def test_an_unusable_certificate_is_refused_in_words(server: SkyAuth) -> None:
    with directory() as home:
        certificate(home, "first")
        crt, key = home / "tls.crt", home / "tls.key"
        with serving(server, "--certificate", str(crt), "--key", str(home / "none")) as program:
            assert program.process.wait(60) == 1
        assert f"{home / 'none'} cannot be read: No such file or directory." in program.output
        key.chmod(0o644)
        with serving(server, "--certificate", str(crt), "--key", str(key)) as program:
            assert program.process.wait(60) == 1
        assert f"Run: chmod 600 {key}" in program.output
        key.chmod(0o600)
        with serving(server, "--certificate", str(key), "--key", str(key)) as program:
            assert program.process.wait(60) == 1
        assert "are not a certificate and its private key" in program.output
        assert "Traceback" not in program.output
