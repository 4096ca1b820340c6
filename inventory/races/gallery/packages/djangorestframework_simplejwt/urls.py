from django.urls import path
from rest_framework_simplejwt.views import TokenRefreshView

from .mend import RefreshOnce

urlpatterns = [
    path("refresh/", TokenRefreshView.as_view()),
    path("refresh-once/", TokenRefreshView.as_view(serializer_class=RefreshOnce)),
]
