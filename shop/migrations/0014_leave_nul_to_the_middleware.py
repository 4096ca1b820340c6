"""No validators against NUL: a middleware refuses it in whatever is sent. Nothing changes in the database."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("shop", "0013_given_permissions"),
    ]

    operations = [
        migrations.AlterField(
            model_name="order",
            name="idempotency_key",
            field=models.CharField(max_length=100, unique=True),
        ),
        migrations.AlterField(
            model_name="order",
            name="name",
            field=models.CharField(max_length=200),
        ),
        migrations.AlterField(
            model_name="order",
            name="postcode",
            field=models.CharField(blank=True, max_length=20),
        ),
        migrations.AlterField(
            model_name="order",
            name="street",
            field=models.TextField(max_length=1000, verbose_name="street address"),
        ),
        migrations.AlterField(
            model_name="order",
            name="town",
            field=models.CharField(blank=True, max_length=100),
        ),
        migrations.AlterField(
            model_name="order",
            name="tracking",
            field=models.CharField(blank=True, max_length=100, verbose_name="tracking reference"),
        ),
        migrations.AlterField(
            model_name="refund",
            name="by_hand",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="How staff gave it back, where the provider refused. Empty: they didn’t.",
                max_length=200,
            ),
        ),
        migrations.AlterField(
            model_name="refund",
            name="note",
            field=models.CharField(blank=True, max_length=200),
        ),
    ]
