from django.db import migrations, models

# Units refunded without going on sale again were known to their order only.
WRITE_OFF = """
    UPDATE inventory_reservation AS reservation
    SET written_off = line.refunded - reservation.returned
    FROM shop_orderline AS line
    WHERE line.reservation_id = reservation.id
        AND reservation.status = 'SOLD' AND line.refunded > reservation.returned
"""


class Migration(migrations.Migration):
    dependencies = [("shop", "0004_groups_see_refusals"), ("inventory", "0005_written_off")]

    operations = [
        migrations.RunSQL(WRITE_OFF, migrations.RunSQL.noop),
        migrations.AlterField(
            model_name="orderline",
            name="refunded",
            field=models.PositiveIntegerField(
                default=0,
                help_text="Units taken back; their price was given back as far as it was kept.",
            ),
        ),
        migrations.AlterField(
            model_name="refund",
            name="reason",
            field=models.CharField(
                choices=[
                    ("GOODS_GONE", "paid too late: not enough left"),
                    ("NOT_FOR_SALE", "paid too late: not for sale any more"),
                    ("OVER_LIMIT", "paid too late: over the limit per customer"),
                    ("PAID_TWICE", "paid twice"),
                    ("PAID_AFTER_END", "paid after the order was closed"),
                    ("CANCELLED", "order cancelled"),
                    ("RETURNED", "goods returned or not sent"),
                    ("GOODWILL", "part of the price given back"),
                ],
                max_length=14,
            ),
        ),
    ]
