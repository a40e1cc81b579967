"""The four groups (S19). Here because this floor sees the permissions of all."""

from django.db import migrations

from quantum import groups

LOOKS = [
    f"{label}.view_{model}"
    for label, models in {
        "quantum": ["auditevent", "instance"],
        "permits": ["permit", "tradingstate", "hold", "policyversion", "usage", "approval", "approvalvote"],
        "positions": [
            "fill", "funding", "ledgerentry", "balance", "symbollock", "incident", "correctionrequest",
        ],
        "apply": ["plan", "order", "proposal", "apitoken", "inquiry", "breakglass"],
    }.items()
    for model in models
]
ACTS = [
    "apply.propose", "apply.break_glass", "permits.issue_permit", "permits.revoke_permit", "permits.halt",
    "permits.place", "permits.lift", "positions.reconcile",
]
LIMITS = ["permits.halt", "permits.resume", "permits.approve", "permits.set_policy"]
PEOPLE = ["auth.view_user", "auth.add_user", "auth.change_user", "auth.view_group"]


def forwards(apps, schema_editor):
    table = {
        groups.VIEWER: LOOKS,
        groups.OPERATOR: [*LOOKS, *ACTS],
        groups.RISK_OFFICER: [*LOOKS, *LIMITS],
        groups.ADMIN: [*LOOKS, *ACTS, *LIMITS, *PEOPLE],
    }
    groups.give(apps, table, using=schema_editor.connection.alias)


class Migration(migrations.Migration):

    dependencies = [
        ('apply', '0004_break_glass'),
        ('positions', '0004_funding'),
        ('permits', '0005_person_permissions'),
        ('quantum', '0001_initial'),
        ('auth', '0012_alter_user_first_name_max_length'),
        ('contenttypes', '0002_remove_content_type_name'),
    ]

    operations = [migrations.RunPython(forwards, migrations.RunPython.noop)]
