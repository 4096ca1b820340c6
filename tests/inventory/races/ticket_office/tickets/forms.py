from django import forms

from tickets.models import Booking


class BookingForm(forms.ModelForm):
    class Meta:
        model = Booking
        fields = ("email",)


class SearchForm(forms.Form):
    words = forms.CharField()
