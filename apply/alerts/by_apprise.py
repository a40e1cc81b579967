"""Targets of many kinds by apprise, an extra that is imported only where an address of its is set."""

from __future__ import annotations

import importlib.util
import json
import logging
from dataclasses import dataclass, field
from typing import Any

from apply.alerts.targets import NotTold

INSTALL = "pip install 'apprise>=2.2,<3' (the extra `alerts`)"
KINDS = {"critical": "failure", "warning": "warning", "info": "success"}


def installed() -> bool:
    return importlib.util.find_spec("apprise") is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ByApprise:
    name: str
    address: str = field(repr=False)
    escalations_only: bool = False

    def tell(self, body: str, *, mark: str) -> str:  # noqa: ARG002  its services know no idempotency
        said = json.loads(body)
        title = f"[{said['mode'].upper()} {said['account']}] {said['event']}: {said['text']}"
        lines = [said["why"], said["command"], said["link"]]
        service = self._service()
        try:
            done = service.notify(
                title=title,
                body="\n".join(line for line in lines if line) or said["text"],
                notify_type=KINDS[said["severity"]],
            )
        except Exception as failed:  # noqa: BLE001  a hundred services' code, none of it ours
            raise NotTold(f"apprise failed ({type(failed).__name__})", permanent=False) from None
        if not done:
            raise NotTold("the service did not take it", permanent=False)
        return "taken by the service"

    def _service(self) -> Any:
        if not installed():
            raise NotTold(f"apprise is not installed: {INSTALL}", permanent=True)
        import apprise

        # Its lines name addresses, and an address of its is a password.
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
        service = apprise.Apprise()
        if not service.add(self.address):
            raise NotTold("apprise does not know this address: correct ALERT_APPRISE_URLS", permanent=True)
        return service
