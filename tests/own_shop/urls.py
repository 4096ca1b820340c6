from django.urls import path

from tests.own_shop import views

urlpatterns = [path("guitars/<int:pk>/buy", views.buy)]
