from django.contrib import admin
from django.urls import path
from guitars import views

urlpatterns = [path("admin/", admin.site.urls), path("guitars/<int:pk>/buy", views.buy)]
