from django.db import migrations, models

from quantum import groups

MAY = ["apply.resolve_order"]


def forwards(apps, schema_editor):
    table = {groups.OPERATOR: MAY, groups.ADMIN: MAY}
    groups.give(apps, table, using=schema_editor.connection.alias)


class Migration(migrations.Migration):

    dependencies = [
        ('apply', '0005_groups'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='order',
            options={'ordering': ['-id'], 'permissions': [('resolve_order', 'Can say what became of an order of unknown fate')]},
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(fields=['symbol', 'id'], name='order_by_symbol'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('error', ''), _negated=True), fields=['id'], name='order_that_failed'),
        ),
        migrations.RunPython(forwards, migrations.RunPython.noop),
    ]
