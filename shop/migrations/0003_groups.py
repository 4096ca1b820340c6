from django.db import migrations


class Migration(migrations.Migration):
    """Once made the groups of staff; shop.admin.groups does, after each ``migrate``."""

    dependencies = [
        ("shop", "0002_refusals"),
        ("inventory", "0003_alerts"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
