from django.contrib.auth.views import LoginView
from django.urls import path

from .mend import one_at_a_time

log_in = LoginView.as_view(template_name="log_in.html")

urlpatterns = [
    path("log-in/", log_in),
    path("log-in-in-turn/", one_at_a_time(log_in)),
]
