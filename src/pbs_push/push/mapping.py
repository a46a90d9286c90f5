"""Whether the source's namespaces fit below the target anchor (protocol/access.md, "Depth")."""

from __future__ import annotations

from collections.abc import Iterable

from pbs_push.errors import ConfigError
from pbs_push.names import MAX_NAMESPACE_DEPTH, Namespace


def check_depths(
    source_anchor: Namespace,
    target_anchor: Namespace,
    max_depth: int | None,
    source_namespaces: Iterable[Namespace],
) -> None:
    """Check, before anything is sent, that no namespace would lie too deep at the target.

    ``max_depth`` counts levels below the anchors, 0 to 7, None for all; ``source_namespaces`` are
    those that the push handles. Raises ConfigError, naming what is too deep.
    """
    if max_depth is not None:
        _check_max_depth("source", source_anchor, max_depth)
        _check_max_depth("target", target_anchor, max_depth)
    for namespace in source_namespaces:
        levels = namespace.depth - source_anchor.depth
        if levels + target_anchor.depth > MAX_NAMESPACE_DEPTH:
            raise ConfigError(
                f"source {namespace.label} cannot be pushed: its {levels} levels below the source "
                f"{source_anchor.label} and the {target_anchor.depth} of the target "
                f"{target_anchor.label} are more than {MAX_NAMESPACE_DEPTH}; choose another target "
                "namespace, or limit the depth"
            )
        # The name can be too long as well, and it may not be below the anchor at all.
        namespace.mapped(source_anchor, target_anchor)


def _check_max_depth(side: str, anchor: Namespace, max_depth: int) -> None:
    if not 0 <= max_depth <= MAX_NAMESPACE_DEPTH:
        raise ConfigError(f"max-depth {max_depth} is not between 0 and {MAX_NAMESPACE_DEPTH}")
    if anchor.depth + max_depth > MAX_NAMESPACE_DEPTH:
        raise ConfigError(
            f"max-depth {max_depth} is too much for the {side} {anchor.label}, "
            f"{anchor.depth} levels deep: together at most {MAX_NAMESPACE_DEPTH}"
        )
