"""What one does on a page, one does at the terminal too: the web server may be what is down. The acts come from the
router; a new one has its command here, or says whose it is."""

from __future__ import annotations

import pytest
from django.core.management import get_commands, load_command_class

from tests.flow.test_groups import ACT_NEEDS

BY_COMMAND = {
    "permits_permit_revoke": "permit_revoke",
    "permits_permit_grant": "permit_grant",
    "permits_approval_vote": "approve",
    "permits_policy_set": "policy_set",
    "apply_proposal_propose": "propose",
    "apply_break_glass_act": "break_glass",
    "apply_break_glass_approve": "break_glass --approve",
    "apply_break_glass_refuse": "break_glass --refuse",
    "apply_orders_decide": "order_resolve",
    "apply_plan_retry": "plan_retry",
    "apply_dead_letters_end": "dead_letters",
    "apply_oncall_halt_act": "trading_state",
    "apply_oncall_resume_act": "trading_state",
    "apply_oncall_lift_act": "hold --lift",
    "apply_oncall_ack_act": "incident_ack",
    "positions_reconcile_adopt_several": "reconcile --adopt",
    "positions_reconcile_act adopt": "reconcile --adopt",
    "positions_reconcile_act write": "reconcile --to",
    "positions_reconcile_act close": "reconcile --close",
    "positions_reconcile_act hold": "hold",
    "positions_reconcile_act release": "hold --lift",
    "positions_reconcile_act approve": "reconcile --approve",
    "positions_reconcile_act ack": "incident_ack",
    "quantum_second_factor_reset": "totp_reset",
}
PEOPLE = ("auth_user_", "auth_group_")
"""Django's createsuperuser and changepassword are for whoever owns the machine; the rest of it is the admin's."""


def test_every_act_of_a_page_has_its_command() -> None:
    acts = {name for name in ACT_NEEDS if not name.startswith(PEOPLE)}
    assert acts == BY_COMMAND.keys()


@pytest.mark.parametrize("told", sorted(set(BY_COMMAND.values())))
def test_the_command_asks_for_a_reason_as_the_page_does(told: str) -> None:
    name, _, option = told.partition(" ")
    parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
    known = {word for action in parser._actions for word in action.option_strings}
    assert {"--reason", "--by", *filter(None, [option])} <= known
