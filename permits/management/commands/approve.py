"""Answer what waits for a person's approval, or list it."""

from __future__ import annotations

import getpass
from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from permits.desk import approvals
from permits.models import Approval
from quantum import clock
from quantum.commands import Command as Base
from quantum.commands import Exit
from quantum.log import safe


class Command(Base):
    help = (
        "Without an id: list what waits. With one: say yes (or --no). A yes of enough people publishes a new "
        "plan, which passes both gates like any other."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("approval", nargs="?", type=int, metavar="ID")
        parser.add_argument("--no", action="store_true", help="refuse; one no ends it")
        parser.add_argument("--reason", default="", help="at least 8 characters; goes into the history")
        parser.add_argument("--confirm", default="", metavar="SYMBOL", help="typed where one yes is enough")
        parser.add_argument("--by", default="", help="who you are; default: the login name")
        parser.add_argument("--dry-run", action="store_true", help="show it, answer nothing")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["approval"] is None:
            self._list(as_json=options["json"])
            return
        if options["dry_run"]:
            self._show(options["approval"])
            return
        try:
            voted = approvals.vote(
                approval_id=options["approval"],
                by=options["by"] or getpass.getuser(),
                yes=not options["no"],
                reason=options["reason"],
                confirm=options["confirm"],
            )
        except approvals.VoteIncomplete as incomplete:
            self.leave(Exit.USAGE, f"Not counted: {safe(str(incomplete))}.")
        except approvals.VoteRefused as refused:
            self.leave(Exit.BLOCKED, f"Not counted: {safe(str(refused))}.")
        self._tell(voted, as_json=options["json"])

    def _list(self, *, as_json: bool) -> None:
        found = approvals.waiting()
        if as_json:
            self.data(
                {"waiting": [_data(approval) for approval in found], "needed": settings.APPROVERS_REQUIRED}
            )
            return
        for approval in found:
            self.stdout.write(_line(approval))
        if not found:
            self.say("Nothing waits for an approval, which is normal.")

    def _show(self, approval_id: int) -> None:
        approval = Approval.objects.filter(pk=approval_id).first()
        if approval is None:
            self.leave(Exit.ERROR, f"There is no approval {approval_id}.")
        self.data(_data(approval))

    def _tell(self, voted: approvals.Voted, *, as_json: bool) -> None:
        approval = voted.approval
        if as_json:
            self.data({**_data(approval), "yes_votes": voted.yes_votes, "needed": voted.needed})
        elif approval.state == Approval.State.APPROVED:
            self.stdout.write(approval.plan_id)
            self.say(f"{approval.symbol}: waiting -> approved; more: manage.py plan_show {approval.plan_id}")
        else:
            self.say(f"{approval.symbol}: {approval.state}, {voted.yes_votes} of {voted.needed} said yes")


def _line(approval: Approval) -> str:
    left_s = max((approval.expires_at - clock.now()).total_seconds(), 0)
    compared = "  ".join(f"{name}={value}" for name, value in approval.compared.items() if name != "rule")
    said = ", ".join(vote.by for vote in approval.votes.all()) or "nobody"
    text = (
        f"{approval.pk}  {approval.symbol} {approval.fields.get('action')}  {approval.rule}  {compared}  "
        f"yes: {said}  {left_s / 60:.0f} min left"
    )
    return safe(text)


def _data(approval: Approval) -> dict[str, Any]:
    return {
        "id": approval.pk,
        "state": approval.state,
        "symbol": approval.symbol,
        "asked_plan_id": approval.asked_plan_id,
        "plan": approval.fields,
        "rule": approval.rule,
        "compared": approval.compared,
        "asked_at": approval.asked_at.isoformat(),
        "expires_at": approval.expires_at.isoformat(),
        "decided_at": approval.decided_at.isoformat() if approval.decided_at else None,
        "new_plan_id": approval.plan_id,
        "votes": [
            {"by": vote.by, "yes": vote.yes, "reason": vote.reason, "at": vote.at.isoformat()}
            for vote in approval.votes.all()
        ],
    }
