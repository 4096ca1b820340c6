"""One account for an address, however many sign up with it at the same moment."""

from allauth.account.forms import SignupForm
from allauth.account.views import SignupView
from django.db import connection, transaction


class SignupInTurn(SignupForm):
    def validate_unique_email(self, value: str) -> str:
        """Look for the address, after all who signed up with it earlier."""
        with connection.cursor() as cursor:
            # A lock on a word, since there is no row yet. It is held until the COMMIT.
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [value])
        return super().validate_unique_email(value)


sign_up_in_turn = transaction.atomic(SignupView.as_view(form_class=SignupInTurn))
