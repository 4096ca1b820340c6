import django.core.validators
from django.db import migrations, models

no_nul = django.core.validators.ProhibitNullCharactersValidator()


class Migration(migrations.Migration):
    """The text of an address stays whole, in ``street``: nothing can be taken apart for sure."""

    dependencies = [("shop", "0007_hold_addresses")]

    operations = [
        migrations.RenameField("order", "address", "street"),
        migrations.AlterField(
            "order",
            "street",
            models.TextField("street address", max_length=1000, validators=[no_nul]),
        ),
        migrations.AddField(
            "order",
            "postcode",
            models.CharField(max_length=20, blank=True, default="", validators=[no_nul]),
            preserve_default=False,
        ),
        migrations.AddField(
            "order",
            "town",
            models.CharField(max_length=100, blank=True, default="", validators=[no_nul]),
            preserve_default=False,
        ),
        migrations.AddField(
            "order",
            "country",
            models.CharField(max_length=2, blank=True, default="", help_text="ISO code."),
            preserve_default=False,
        ),
    ]
