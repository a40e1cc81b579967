"""doctor: what the policy in the database says, and where the settings say something else."""

from __future__ import annotations

from collections.abc import Iterator

from permits.policy import policies, rules
from quantum.doctor import Finding, fail, ok, warn


def examine() -> Iterator[Finding]:
    version, said = policies.newest()
    try:
        rules.read(said)
    except rules.Nonsense as nonsense:
        yield fail(
            f"version {version} cannot be read: {nonsense}",
            remedy="somebody wrote it past policy_set; set what is named there with policy_set",
        )
        return
    differing = rules.difference(policies.seed(), said) if version else {}
    seeded = {name: pair for name, pair in differing.items() if pair[0] is not None}
    if not seeded:
        yield ok(f"version {version}" if version else "no version yet: the settings hold")
        return
    texts = (
        f"{name}: the settings say {ours}, the policy {theirs}" for name, (ours, theirs) in seeded.items()
    )
    yield warn(
        f"version {version} differs from the settings, and wins: {'; '.join(texts)}",
        remedy="nothing, if that is meant (policy_show has the history); else policy_set, or mend the settings",
    )
