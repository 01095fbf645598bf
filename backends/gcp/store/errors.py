"""What goes wrong with the store, as errors that a user can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from backends.gcp.store.carrier.objects import DamagedError, RefusedError, StoreError
from launcher.errors import CredentialError, IntegrityError, RemoteError

LOGIN = "`gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS; the account needs the role "
ROLE = "Storage Object User (roles/storage.objectUser) on the bucket"


@contextmanager
def asking(bucket: str) -> Iterator[None]:
    """Map them. What the store refuses is CredentialError, what is not what was written IntegrityError, all else
    RemoteError: it was not told what became of it.
    """
    try:
        yield
    except RefusedError as error:
        raise CredentialError(f"gs://{bucket}: {error}", remedy=LOGIN + ROLE) from error
    except DamagedError as error:
        raise IntegrityError(
            f"gs://{bucket}: {error}", remedy="someone else writes there: look at the bucket"
        ) from error
    except StoreError as error:
        raise RemoteError(f"gs://{bucket}: {error}") from error
