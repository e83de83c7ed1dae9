"""Signatures by OpenSSF model-signing, where it is installed: a Sigstore bundle in a file beside what is signed."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from types import ModuleType

from rtserve.errors import BundleError, InputError
from rtserve.extras import extra_module
from rtserve.files import readable_file

__all__ = ["SUFFIX", "require_signing", "sign", "verify_signature"]

SUFFIX = ".sig"
INSTALL = "pip install model-signing pyopenssl"
"""The second is what model-signing 1.1.1 imports and no longer gets by its own dependencies."""


def require_signing() -> ModuleType:
    """Return the package.

    Raises
    ------
    EnvironmentMissingError
        Where it is not installed.
    """
    return extra_module("model_signing", title="OpenSSF model-signing", install=INSTALL)


def sign(data: bytes, key: str | Path, *, name: str) -> bytes:
    """Return the signature of a file that is called `name` and holds `data`, by an elliptic private key (PEM).

    Raises
    ------
    InputError
        Where the key cannot be read or is of another kind.
    EnvironmentMissingError
        Where model-signing is not installed.
    """
    key = readable_file(key, "private key")
    require_signing()
    signing = importlib.import_module("model_signing.signing")
    with tempfile.TemporaryDirectory(prefix="rtserve-sign-") as folder:
        signed, signature = Path(folder) / name, Path(folder) / f"{name}{SUFFIX}"
        signed.write_bytes(data)
        try:
            signing.Config().use_elliptic_key_signer(private_key=key).sign(signed, signature)
        except Exception as error:  # whatever the library or cryptography below it raises
            raise InputError(
                f"model-signing cannot sign with {key}: {_said(error)}",
                hint="openssl ecparam -name prime256v1 -genkey -noout -out private.pem",
            ) from None
        return signature.read_bytes()


def verify_signature(path: Path, signature: Path, key: str | Path) -> None:
    """Verify the signature of a file by the public key (PEM) of who signed it.

    Raises
    ------
    InputError
        Where key or signature are missing.
    BundleError
        Where the signature is not of that key and these bytes.
    EnvironmentMissingError
        Where model-signing is not installed.
    """
    key, signature = readable_file(key, "public key"), readable_file(signature, "signature")
    require_signing()
    verifying = importlib.import_module("model_signing.verifying")
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=key).verify(path, signature)
    except Exception as error:  # whatever the library or cryptography below it raises
        raise BundleError(
            f"{signature.name} is no signature of {path.name} by {key}: {_said(error)}",
            hint="take the file, the signature and the public key from who signed it",
        ) from None


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
