from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("experiments", "0001_initial"),
    ]

    operations = [
        migrations.AlterField(
            model_name="flashsale",
            name="payment_ms",
            field=models.PositiveIntegerField(help_text="Milliseconds that a payment takes."),
        ),
        migrations.AlterField(
            model_name="flashsale",
            name="quantity_max",
            field=models.PositiveIntegerField(help_text="The most units that a buyer asks for."),
        ),
        migrations.AlterField(
            model_name="flashsale",
            name="quantity_min",
            field=models.PositiveIntegerField(help_text="The fewest units that a buyer asks for."),
        ),
        migrations.AlterField(
            model_name="flashsaleresult",
            name="failed",
            field=models.PositiveIntegerField(help_text="Buyers who got no answer."),
        ),
        migrations.AlterField(
            model_name="flashsaleresult",
            name="falsely_refused",
            field=models.PositiveIntegerField(
                default=0, help_text="Buyers refused though enough units were always available."
            ),
        ),
        migrations.AlterField(
            model_name="flashsaleresult",
            name="p50_ms",
            field=models.FloatField(help_text="Latency of reserving, in milliseconds.", null=True),
        ),
        migrations.AlterField(
            model_name="flashsaleresult",
            name="unrecorded",
            field=models.PositiveIntegerField(
                default=0,
                help_text="Units that buyers believe they have bought, but that aren't on record.",
            ),
        ),
    ]
