from django.contrib.auth.views import LoginView
from django.urls import include, path
from django.views.generic import CreateView
from restlike import foreign_view
from tickets.models import Tag

urlpatterns = [
    path("", include("tickets.urls", namespace="shop")),
    path("log-in/", LoginView.as_view()),
    path("tags/", CreateView.as_view(model=Tag, fields=("name",))),
    path("foreign/", foreign_view),
]
