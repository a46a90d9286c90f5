"""A push job of ``sync.cfg`` as options of a push."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pbs_push.access.rights import Access
from pbs_push.errors import ConfigError
from pbs_push.formats.keys import CryptKey
from pbs_push.push.options import OPTIONS, PushOptions

if TYPE_CHECKING:
    from pbs_push.access.jobs import SyncJob


def options_of(
    job: SyncJob, access: Access, key: CryptKey | None, more: Mapping[str, Any]
) -> PushOptions:
    """The options that do what ``job`` says; ``access`` is that of its owner, ``key`` the one that
    it encrypts with, ``more`` what its file cannot say.

    Raises ConfigError for a job that is not a push, and for settings that cannot be honoured: to
    ignore one could push, or remove, something else than the administrator meant.
    """
    remote = job.require_push()
    said = {
        name: getattr(job, option.job.replace("-", "_"))
        for name, option in OPTIONS.items()
        if option.job is not None
    }
    try:
        return PushOptions(
            **said,
            **more,
            encryption_key=key,
            access=access,
            source_name=job.store,
            remote_name=remote,
        )
    except ConfigError as error:
        raise job.refused(str(error)) from None
