"""The certificate, the key and the authorities of clients by which gRPC is encrypted, read from files."""

from __future__ import annotations

import logging
import os
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cpuserve.errors import UsageError
from cpuserve.settings import Settings

__all__ = ["Tls"]

_log = logging.getLogger("cpuserve.access")
_MOST_BYTES = 1 << 20
_MISMATCH = "KEY_VALUES_MISMATCH"


@dataclass(frozen=True)
class Tls:
    """The contents of the files, which were found to fit together.

    Attributes:
        certificate: the server's, then those of the authorities between; PEM.
        key: of the certificate; PEM.
        client_ca: authorities, one of which must have signed the certificate of a client; None asks for none.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None = None

    @classmethod
    def of(cls, settings: Settings) -> Tls | None:
        """Read the files that the settings name; None where they name none.

        Raises:
            UsageError: a file is missing, cannot be read, holds something else, or does not fit the others.
        """
        certificate, key, client_ca = settings.grpc_certificate, settings.grpc_key, settings.grpc_client_ca
        if not (certificate or key or client_ca):
            return None
        if not settings.grpc_port:
            raise UsageError("grpc_certificate, grpc_key and grpc_client_ca need a grpc_port")
        if not certificate or not key:
            missing = "grpc_key" if certificate else "grpc_certificate"
            given = "grpc_certificate" if certificate else "grpc_key" if key else "grpc_client_ca"
            raise UsageError(f"{given} needs {missing} too")
        found = cls(
            _read("grpc_certificate", certificate),
            _read("grpc_key", key),
            _read("grpc_client_ca", client_ca) if client_ca else None,
        )
        found._check(certificate, key, client_ca)
        if Path(key).stat().st_mode & stat.S_IROTH:
            _log.warning("grpc_key %s can be read by every user: chmod o-r it", key)
        return found

    def _check(self, certificate: str, key: str, client_ca: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        both = _in_memory(self.certificate), _in_memory(self.key)
        first, second = (f"/proc/self/fd/{number}" for number in both)
        try:
            context.load_cert_chain(first, second, _no_password)
        except ssl.SSLError as error:
            reason = error.reason or str(error)
            if reason == _MISMATCH:
                raise UsageError(
                    f"grpc_key {key} is not the key of the first certificate in grpc_certificate "
                    f"{certificate}"
                ) from None
            if isinstance(error.__context__, _NeedsPassword):
                raise _locked(key) from None
            raise UsageError(
                f"grpc_certificate {certificate} and grpc_key {key} cannot be used together: both must be "
                f"PEM files, one of a certificate and one of its key ({reason})"
            ) from None
        except _NeedsPassword:
            raise _locked(key) from None
        finally:
            for number in both:
                os.close(number)
        if self.client_ca is not None:
            try:
                context.load_verify_locations(cadata=self.client_ca.decode("ascii"))
            except (ssl.SSLError, UnicodeDecodeError):
                raise UsageError(f"grpc_client_ca {client_ca} is no PEM file of certificates") from None


class _NeedsPassword(Exception):
    """OpenSSL asks for the password of the key."""


def _no_password() -> str:
    raise _NeedsPassword


def _locked(key: str) -> UsageError:
    return UsageError(f"grpc_key {key} has a password: take it off (openssl pkey -in KEY -out PLAIN)")


def _read(setting: str, name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{setting} {name} cannot be read: {error.strerror}") from error
    if len(content) > _MOST_BYTES:
        raise UsageError(
            f"{setting} {name} is larger than {_MOST_BYTES} bytes: it is no file of certificates"
        )
    if b"-----BEGIN " not in content:
        raise UsageError(f"{setting} {name} is no PEM file: it has no -----BEGIN line")
    return content


def _in_memory(content: bytes) -> int:
    """A descriptor of a file in memory: what is checked is what is used, whatever happens to the file."""
    number = os.memfd_create("cpuserve-tls")
    with os.fdopen(os.dup(number), "wb") as file:
        file.write(content)
    return number
