"""The older name of propose, for scripts and hands that know it."""

from __future__ import annotations

from apply.management.commands.propose import Command as Propose


class Command(Propose):
    help = "The same as propose: publish_plan BTCUSDT PARTIAL_75 [--wait] [--json] [--dry-run]"
