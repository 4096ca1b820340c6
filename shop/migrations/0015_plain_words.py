"""Plainer labels and help texts. Nothing changes in the database."""

import uuid

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("shop", "0014_leave_nul_to_the_middleware"),
    ]

    operations = [
        migrations.AlterField(
            model_name="demobankcharge",
            name="approve_at",
            field=models.DateTimeField(
                blank=True,
                help_text="When the money arrives, if the customer has approved.",
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="order",
            name="email_key",
            field=models.CharField(
                editable=False,
                help_text="The e-mail address as limits per customer compare it.",
                max_length=254,
            ),
        ),
        migrations.AlterField(
            model_name="orderline",
            name="refunded",
            field=models.PositiveIntegerField(
                default=0,
                help_text="Units refunded; their price was given back as far as it was kept.",
            ),
        ),
        migrations.AlterField(
            model_name="payment",
            name="key",
            field=models.UUIDField(
                default=uuid.uuid4,
                editable=False,
                help_text="Makes a repeated start return the same payment.",
                unique=True,
            ),
        ),
        migrations.AlterField(
            model_name="refund",
            name="by_hand",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="How staff gave it back after the provider had declined it. Empty: they didn’t.",
                max_length=200,
            ),
        ),
        migrations.AlterField(
            model_name="refund",
            name="key",
            field=models.CharField(
                help_text="Keeps a repeated refund from happening twice.",
                max_length=100,
                unique=True,
            ),
        ),
        migrations.AlterField(
            model_name="refund",
            name="mailed_state",
            field=models.CharField(
                blank=True,
                choices=[
                    ("DUE", "on its way"),
                    ("DONE", "done"),
                    ("FAILED", "declined by the provider"),
                ],
                db_default="",
                default="",
                help_text="The state in the last e-mail to the buyer. Empty: no e-mail yet.",
                max_length=6,
            ),
        ),
        migrations.AlterField(
            model_name="refund",
            name="problem",
            field=models.CharField(
                blank=True, help_text="Why the provider declined it the last time.", max_length=300
            ),
        ),
        migrations.AlterField(
            model_name="refund",
            name="state",
            field=models.CharField(
                choices=[
                    ("DUE", "on its way"),
                    ("DONE", "done"),
                    ("FAILED", "declined by the provider"),
                ],
                default="DUE",
                max_length=6,
            ),
        ),
        migrations.AlterField(
            model_name="shopalert",
            name="kind",
            field=models.CharField(
                choices=[
                    ("REFUND_REFUSED", "refund declined"),
                    ("REFUND_LATE", "refund not carried out"),
                    ("PAYMENT_UNSETTLED", "payment not settled"),
                    ("PAYMENT_DISPUTED", "payment disputed"),
                    ("MAIL_FAILED", "e-mail not sent"),
                    ("JOB_FAILED", "background job failed"),
                    ("WORKER_GONE", "no worker runs"),
                ],
                max_length=17,
            ),
        ),
        migrations.AlterField(
            model_name="shopalert",
            name="subject",
            field=models.CharField(
                blank=True,
                help_text="The thing that it is about, as the program names it.",
                max_length=128,
            ),
        ),
        migrations.AlterField(
            model_name="shopalert",
            name="tried_at",
            field=models.DateTimeField(
                blank=True,
                help_text="When a web process began to send it, as no worker ran.",
                null=True,
            ),
        ),
    ]
