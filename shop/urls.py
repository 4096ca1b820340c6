"""The addresses of the shop."""

from django.contrib import admin
from django.urls import path

from shop.views import payments

urlpatterns = [
    path("payments/<str:provider>/events/", payments.payment_events, name="payment_events"),
    path("demo-bank/<str:reference>/", payments.demo_bank, name="demo_bank"),
    path("admin/", admin.site.urls),
]
