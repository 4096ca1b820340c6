from django.urls import include, path

from .mend import sign_up_in_turn

urlpatterns = [
    path("accounts/", include("allauth.urls")),
    path("signup-in-turn/", sign_up_in_turn),
]
