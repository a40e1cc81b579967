from django.db import migrations

from quantum import groups

MAY = ["quantum.export"]


def forwards(apps, schema_editor):
    """Who acts has to account for it. A viewer looks, page by page; who needs more is given it."""
    table = {groups.OPERATOR: MAY, groups.RISK_OFFICER: MAY, groups.ADMIN: MAY}
    groups.give(apps, table, using=schema_editor.connection.alias)


class Migration(migrations.Migration):

    dependencies = [
        ('quantum', '0005_proof'),
        ('auth', '0012_alter_user_first_name_max_length'),
        ('contenttypes', '0002_remove_content_type_name'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='auditevent',
            options={'ordering': ['-id'], 'permissions': [('export', 'Can save whole lists as files; each is an event here')]},
        ),
        migrations.RunPython(forwards, migrations.RunPython.noop),
    ]
