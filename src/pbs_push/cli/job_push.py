"""A push job of ``sync.cfg`` as options of a push."""

from __future__ import annotations

from pbs_push.access.jobs import SyncJob
from pbs_push.access.rights import Access
from pbs_push.errors import ConfigError
from pbs_push.formats.keys import CryptKey
from pbs_push.push.options import PushOptions


def job_options(job: SyncJob, access: Access, key: CryptKey | None = None) -> PushOptions:
    """The options that do what ``job`` says; ``access`` is that of its owner, ``key`` the one that
    it encrypts with.

    Raises ConfigError for a job that is no push, and for settings that cannot be honoured: to
    ignore one could push, or remove, something else than the administrator meant.
    """
    remote = job.require_push()
    try:
        return PushOptions(
            source_namespace=job.ns,
            target_namespace=job.remote_ns,
            max_depth=job.max_depth,
            group_filters=job.filters,
            transfer_last=job.transfer_last,
            encrypted_only=job.encrypted_only,
            verified_only=job.verified_only,
            parallel=job.worker_threads,
            remove_vanished=job.remove_vanished,
            rate_out=job.rate_out,
            burst_out=job.burst_out,
            encryption_key=key,
            access=access,
            source_name=job.store,
            remote_name=remote,
        )
    except ConfigError as error:
        raise job.refused(str(error)) from None
