"""The TLS certificate of the server, and its renewal while the server runs."""

import logging
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from core.private_files import open_to_others

logger = logging.getLogger("skyauth.certificates")


class CertificateError(Exception):
    """A certificate or its key cannot be used. The message says why, and contains no part of a file."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Two PEM files: the certificate with its chain, and its private key without a password."""

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Return a new context for a server, with TLS 1.2 or newer. Raises CertificateError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        for path in (self.certificate, self.key):
            try:
                with path.open("rb") as stream:
                    status = os.fstat(stream.fileno())
            except OSError as error:
                raise CertificateError(f"{path} cannot be read: {error.strerror}.") from None
            if path == self.key and open_to_others(status):
                raise CertificateError(f"{path} can be read or changed by others on this machine. Run: chmod 600 {path}")
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_password)
        except _EncryptedKey:
            raise CertificateError(f"{self.key} has a password. Write the key to a file without one.") from None
        except ssl.SSLError:
            raise CertificateError(
                f"{self.certificate} and {self.key} are not a certificate and its private key. Both must be PEM files."
            ) from None
        return context

    def versions(self) -> tuple[tuple[int, int], ...]:
        """Return what changes when a file is replaced; a file that cannot be read has a version, too."""
        return tuple(_version(path) for path in (self.certificate, self.key))


class _EncryptedKey(Exception):
    """OpenSSL asked for a password."""


def _no_password() -> str:
    raise _EncryptedKey


def _version(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_ino, status.st_mtime_ns)


class Renewal:
    """Reads the certificate again when its files change. New connections then use it; others continue with the old one."""

    def __init__(self, files: CertificateFiles, context: ssl.SSLContext) -> None:
        self._files = files
        self._context = context
        self._versions = files.versions()

    def check(self) -> None:
        """Use changed files if they are valid; else log what is wrong with them, once."""
        versions = self._files.versions()
        if versions == self._versions:
            return
        self._versions = versions
        try:
            self._files.context()  # first in another context: a certificate without its key would stay in this one
            self._context.load_cert_chain(self._files.certificate, self._files.key, password=_no_password)
        except (CertificateError, ssl.SSLError, OSError) as error:
            logger.error("The new TLS certificate is not used. %s", error)
        else:
            logger.info("The TLS certificate was renewed.")
